# make demo   a pretrained model, adapted, audited, exported, verified; prints where the report is
# make test   lint, types, tests, doctests (at most 12 minutes on 2 cores)
# make help   the rest

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# further options of pip for installing torch, where the registry's own build is not the one you want
TORCH_ARGS ?=
# the browser that the pages are looked at with
CHROMIUM ?= /usr/bin/chromium
# the server that a ledger is tested in: the folder of its tools
POSTGRES ?= $(or $(lastword $(sort $(wildcard /usr/lib/postgresql/*/bin))),/usr/lib/postgresql)
# processes that run tests, one thread each
WORKERS ?= 2
# arguments for one target: make test ARGS="-k splits", make bench-adapt ARGS=--quick
ARGS ?=

# A stamp says which extras the environment holds; it is stale when the pins or the package change.
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check
install = @mkdir -p $(STAMPS) \
	&& echo "installing assay[$(1)] into $(VENV) (once)" \
	&& $(PIP) install --quiet $(TORCH_ARGS) torch==2.13.0 \
	&& $(PIP) install --quiet -e ".[$(1)]" -c constraints.txt \
	&& touch $@

# tests and benchmarks set their own threads; waiting threads must not spin on a shared machine
export OMP_WAIT_POLICY ?= passive
# one import cache and no surprises from the user's own packages
export PYTHONNOUSERSITE := 1

.PHONY: help demo test test-long lint format docs bench-adapt bench-loop bench-vision bench-private clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(STAMPS)/demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,export$(comma)samples$(comma)text)

$(STAMPS)/test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,test)

$(STAMPS)/bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,bench$(comma)export$(comma)private$(comma)samples$(comma)text$(comma)vision)

$(STAMPS)/docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(call install,docs)

comma := ,

demo: $(STAMPS)/demo ## adapt a pretrained model to the food reviews and print where the report is
	@$(BIN)/assay run recipes/reviews.yaml $(ARGS)

test: lint ## lint, types, tests and doctests
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long" --doctest-modules src tests benchmarks/_pairs.py $(ARGS)

# never tested without a browser: it is installed where that is possible, else asked for
$(CHROMIUM):
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		|| { echo "$@ is missing: install Debian's chromium, or name one: make $(MAKECMDGOALS) CHROMIUM=..." >&2; exit 2; }
	@echo "installing chromium (once)"
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null

# the same for the server
$(POSTGRES)/initdb:
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		|| { echo "PostgreSQL is missing: install Debian's postgresql, or name its tools: make $(MAKECMDGOALS) POSTGRES=.../bin" >&2; exit 2; }
	@echo "installing postgresql (once)"
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null

test-long: $(STAMPS)/test | $(CHROMIUM) $(POSTGRES)/initdb ## the campaigns that take minutes: kills, faults, the README's commands, the pages in a browser
	CHROMIUM=$(CHROMIUM) POSTGRES=$(POSTGRES) $(BIN)/python -m pytest -m long tests $(ARGS)

lint: $(STAMPS)/test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

format: $(STAMPS)/test ## write all files in the house's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMPS)/docs ## the documentation as a web site in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

bench-adapt: $(STAMPS)/bench ## assay beside transformers.Trainer and peft, alternating
	$(BIN)/python benchmarks/adapt_vs_hf.py $(ARGS)

bench-loop: $(STAMPS)/bench ## the loop beside a hand-written torch loop
	$(BIN)/python benchmarks/loop_overhead.py $(ARGS)

bench-vision: $(STAMPS)/bench ## fine-tuning images: assay beside a plain torch loop and the Trainer
	$(BIN)/python benchmarks/vision_vs_peers.py $(ARGS)

bench-private: $(STAMPS)/bench ## private steps beside the same steps without privacy, and beside Opacus
	$(BIN)/python benchmarks/private_vs_peers.py $(ARGS)

clean: ## remove what tools made (not .venv, not runs)
	rm -rf site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
