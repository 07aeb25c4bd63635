"""The loop does what one would write by hand, whatever the parts; parts that only tests know."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import Bench, bench
from torch import nn
from torch.nn import functional

from assay import registry
from assay.claims import Capabilities, PlanContext
from assay.config import build_part
from assay.data.config import DataConfig
from assay.data.door import LocalDoor
from assay.errors import UsageError
from assay.models.architecture import Architecture
from assay.models.hub import ModelConfig
from assay.models.model import Model
from assay.stages.finetune import Finetune
from assay.training import preparing
from assay.training.batches import Batch
from assay.training.loop import Job, train
from assay.training.parts import MODEL, Call, Losses, Parameters, Setting, Setup, Term
from assay.training.sources import RowSource, State

Weights = dict[str, torch.Tensor]


def stage(**settings: Any) -> Finetune:
    """A finetune in float32, by plain SGD unless told otherwise."""
    step = {"precision": "fp32", **settings.pop("step", {"sgd": 0.1})}
    return Finetune(**{"epochs": 2, "batch": 8, "step": step, **settings})


def trained(found: Bench, made: Finetune, folder: Path | None = None, **more: Any) -> Weights:
    return weights(train(made, found.model, found.context(folder, **more)))


def weights(model: Model) -> Weights:
    return {n: t.detach().clone() for n, t in model.network.state_dict().items()}


def close(first: Weights, second: Weights, tolerance: float = 1e-6) -> bool:
    assert first.keys() == second.keys()
    return all(torch.allclose(first[n], second[n], rtol=0, atol=tolerance) for n in first)


def batches(found: Bench, made: Finetune) -> list[Batch]:
    """The batches of the stage, in order."""
    source = preparing.row_source(made, found.model, found.context())
    state, out = source.init(), []
    for _ in range(int(made.epochs * source.steps_per_epoch)):
        batch, state = source.next(state)
        out.append(batch)
    return out


# -- oracles --------------------------------------------------------------------------------------


def by_hand(
    found: Bench,
    made: Finetune,
    optimiser: Callable[[nn.Module], torch.optim.Optimizer],
    rate: Callable[[int, int], float] = lambda step, total: 1.0,
    after: Callable[[nn.Module], None] = lambda network: None,
) -> nn.Module:
    """The loop that one writes without assay."""
    network = found.model.copy().network.train()
    steps = optimiser(network)
    given = batches(found, made)
    schedule = torch.optim.lr_scheduler.LambdaLR(steps, lambda step: rate(step, len(given)))
    for batch in given:
        loss = functional.cross_entropy(network(**batch.inputs), batch.targets)
        steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        steps.step()
        schedule.step()
        after(network)
    return network


def groups(network: nn.Module, decay: float, lr: float) -> list[dict[str, Any]]:
    """Weights decay, biases do not; the head learns ten times as fast."""
    named = list(network.named_parameters())
    return [
        {
            "params": [p for n, p in named if _plain(n) == plain and n.startswith("head") == head],
            "weight_decay": 0.0 if plain else decay,
            "lr": lr * (10 if head else 1),
        }
        for plain, head in itertools.product((False, True), repeat=2)
    ]


@pytest.mark.parametrize(
    ("step", "optimiser"),
    [
        ({"sgd": 0.1}, lambda n: torch.optim.SGD(n.parameters(), lr=0.1)),
        (
            {"sgd": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1,
                     "rates": {"head.*": 10}}},
            lambda n: torch.optim.SGD(groups(n, 0.1, 0.05), momentum=0.9, nesterov=True),
        ),
        (
            {"adamw": {"lr": 0.01, "weight_decay": 0.1, "rates": {"head.*": 10}}},
            lambda n: torch.optim.AdamW(groups(n, 0.1, 0.01)),
        ),
        (
            {"adamw": {"lr": 0.01, "weight_decay": 0.1, "decay_all": True}},
            lambda n: torch.optim.AdamW(n.parameters(), lr=0.01, weight_decay=0.1),
        ),
        (
            {"adamw": {"lr": 0.01, "weight_decay": 0.0}},
            lambda n: torch.optim.AdamW(n.parameters(), lr=0.01, weight_decay=0.0),
        ),
    ],
    ids=["sgd", "sgd groups", "adamw groups", "adamw all", "adamw"],
)  # fmt: skip
@pytest.mark.parametrize("which", ["table", "text"])
def test_the_loop_is_the_one_written_by_hand(
    which: str,
    step: dict[str, Any],
    optimiser: Callable[[nn.Module], torch.optim.Optimizer],
    table: Bench,
    text: Bench,
) -> None:
    found = {"table": table, "text": text}[which]
    made = stage(step=step)
    expected = dict(by_hand(found, made, optimiser).state_dict())
    got = trained(found, made)
    assert not close(got, weights(found.model), 1e-3)
    for kept in (got, expected):
        # attention does not depend on these: their gradients are rounding, which Adam magnifies
        for name in [n for n in kept if n.endswith("key.bias")]:
            del kept[name]
    assert close(got, expected)


def test_a_schedule_drives_the_rate(table: Bench) -> None:
    made = stage(step={"adamw": {"lr": 0.05, "weight_decay": 0.0}, "linear": {"warmup": 3}})

    def rate(step: int, total: int) -> float:
        return step / 3 if step < 3 else 1 - (step - 3) / (total - 3)

    expected = by_hand(
        table, made, lambda n: torch.optim.AdamW(n.parameters(), lr=0.05, weight_decay=0.0), rate
    )
    assert close(trained(table, made), dict(expected.state_dict()))


def test_the_average_of_the_weights_is_what_is_kept(table: Bench) -> None:
    made, decay = stage(step={"sgd": 0.2, "ema": 0.8}), 0.8
    seen: list[Weights] = []

    def after(network: nn.Module) -> None:
        seen.append({n: t.detach().clone() for n, t in network.state_dict().items()})

    by_hand(table, made, lambda n: torch.optim.SGD(n.parameters(), lr=0.2), after=after)
    shares = [decay ** (len(seen) - 1 - k) for k in range(len(seen))]
    averages = {
        name: sum((s * w[name] for s, w in zip(shares, seen, strict=True)), torch.zeros(()))
        / sum(shares)
        for name in seen[0]
    }
    kept = trained(table, made)
    assert close(kept, averages)
    assert not close(kept, seen[-1], 1e-4)


def test_accumulation_equals_the_big_batch(table: Bench, text: Bench) -> None:
    adamw = {"adamw": {"lr": 0.01}}
    big = trained(table, stage(step=adamw, batch=16))
    small = trained(table, stage(step={**adamw, "accumulate": 2}, batch=8))
    assert close(big, small)
    assert not close(big, trained(table, stage(step=adamw, batch=8)), 1e-4)
    # micro-batches of texts are bucketed by length: they are other rows than a big batch has
    step = {"sgd": 0.1, "accumulate": 3}
    job = Job(stage(step=step, batch=5), text.model, text.context())
    given = job._next_batches()
    job.state = job.source.init()
    rows = sum(len(b) for b in given)
    assert rows == 15
    network = text.model.copy().network.train()
    losses = [
        functional.cross_entropy(network(**b.inputs), b.targets, reduction="sum") for b in given
    ]
    (torch.stack(losses).sum() / rows).backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    job.step()
    assert close(weights(job.model), dict(network.state_dict()))
    job.close()


def _plain(name: str) -> bool:
    return name.endswith("bias") or "LayerNorm" in name


def test_a_last_step_never_mixes_epochs(table: Bench) -> None:
    rows = table.dataset.size("train")
    made = stage(step={"sgd": 0.1, "accumulate": 4}, batch=8, epochs=1)
    job = Job(made, table.model, table.context())
    sizes = []
    for _ in range(job.total_steps):
        sizes.append(sum(len(b) for b in job._next_batches()))
    assert sum(sizes) == rows
    assert sizes == [32, rows - 32]


# -- what is learnt: units, weights, several terms ------------------------------------------------


def test_losses_of_rows_become_losses_of_units(visits: Bench) -> None:
    job = Job(stage(batch=12), visits.model, visits.context())
    (batch,) = job._next_batches()
    patients = visits.dataset.units("train")[batch.rows.numpy()]
    losses, _ = job.objective(batch, training=True)
    assert losses[MODEL].shape == (len(set(patients.tolist())),)
    rows = functional.cross_entropy(
        job.forward(batch.inputs), batch.targets, reduction="none"
    ).detach()
    for unit, patient in enumerate(np.unique(patients)):
        mine = torch.from_numpy(patients == patient)
        assert losses[MODEL][unit].item() == pytest.approx(rows[mine].sum().item(), rel=1e-5)
    assert losses[MODEL].sum().item() == pytest.approx(rows.sum().item(), rel=1e-5)


def test_units_do_not_change_a_plain_training(visits: Bench, home: Path) -> None:
    made = stage(step={"adamw": 0.01})
    expected = by_hand(visits, made, lambda n: torch.optim.AdamW(groups(n, 0.01, 0.01), lr=0.01))
    rates = {"adamw": {"lr": 0.01, "rates": {"head.*": 10}}}
    assert close(trained(visits, stage(step=rates)), dict(expected.state_dict()))


def test_class_weights_weigh_rows(table: Bench) -> None:
    factors = {"no": 0.5, "yes": 3.0}
    made = stage(objective={"supervised": {"class_weights": factors}}, epochs=1)
    network = table.model.copy().network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    per_class = torch.tensor([factors[name] for name in table.dataset.classes or ()])
    for batch in batches(table, made):
        rows = functional.cross_entropy(network(**batch.inputs), batch.targets, reduction="none")
        optimiser.zero_grad()
        (rows * per_class[batch.targets]).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert close(trained(table, made), dict(network.state_dict()))


def test_balanced_weights_ask_the_door(table: Bench) -> None:
    context = table.context()
    train(stage(objective={"supervised": {"class_weights": "balanced"}}), table.model, context)
    assert isinstance(context.door, LocalDoor)
    assert context.door.asked == ["supervised.class_counts"]


class Twice(Term):
    """Looks at every row twice: its rows are of the same unit."""

    def loss(self, call: Call, state: Any) -> Losses:
        rows = functional.cross_entropy(call.outputs, call.batch.targets, reduction="none")
        units = call.batch.units.repeat(2)
        return Losses({MODEL: rows.repeat(2)}, {MODEL: units}, {"seen": torch.tensor(2.0)})


class Adversary(Term):
    """A critic tells outputs from one-hot labels; the network learns to be taken for a label."""

    def networks(self, setup: Setup) -> dict[str, nn.Module]:
        torch.manual_seed(4)
        return {"critic": nn.Linear(2, 1)}

    def loss(self, call: Call, state: Any) -> Losses:
        fake = call.forward("critic", {"input": call.outputs})[:, 0]
        real = call.forward("critic", {"input": functional.one_hot(call.batch.targets, 2).float()})
        critic = functional.softplus(fake) + functional.softplus(-real[:, 0])
        return Losses({MODEL: functional.softplus(-fake), "critic": critic})


class Hardest:
    """Of twice as many rows those on which the network is worst by now."""

    def __init__(self, rows: RowSource) -> None:
        self.rows = rows

    @property
    def steps_per_epoch(self) -> int:
        return self.rows.steps_per_epoch

    def init(self) -> State:
        return {**self.rows.init(), "chosen": 0}

    def next(self, state: State, model: Model) -> tuple[Batch, State]:
        batch, after = self.rows.next({k: state[k] for k in ("epoch", "position")})
        with torch.no_grad():
            losses = functional.cross_entropy(
                model.network(**batch.inputs), batch.targets, reduction="none"
            )
        worst = batch.rows[losses.topk(len(batch) // 2).indices]
        return self.rows.take(worst), {**after, "chosen": state["chosen"] + len(worst)}


class Mining(Term):
    """The supervised term on the hardest rows."""

    def source(self, setup: Setup) -> Hardest:
        data, preprocessing = setup.context.dataset, setup.model.preprocessing
        encoded = preprocessing.encode(data.rows("train"))
        seed = setup.context.derive("source")
        targets, units = data.targets("train"), data.units("train")
        return Hardest(RowSource(encoded, targets, units, 16, seed))

    def loss(self, call: Call, state: Any) -> Losses:
        return Losses({MODEL: functional.cross_entropy(
            call.outputs, call.batch.targets, reduction="none"
        )})  # fmt: skip


class NoCache(Setting):
    """Forbids the cache of the frozen prefix."""

    def capabilities(self, context: PlanContext) -> Capabilities:
        return Capabilities(breaks=frozenset({"prefix_cache"}))


class First(Parameters):
    """Only the first linear layer moves: everything behind it is frozen."""

    def select(self, model: Model) -> list[str]:
        return ["backbone.0.weight"]


class Normed(Architecture):
    """A network with batch norms, one of which has no parameters."""

    inputs_from_data = True
    inputs: int | None = None
    affine: bool = True

    def build(self) -> nn.Module:
        return Trunk(self.inputs or 1, self.affine)

    def width(self) -> int:
        return 4


class Trunk(nn.Sequential):
    def __init__(self, inputs: int, affine: bool) -> None:
        norm = nn.BatchNorm1d(4, affine=affine)
        super().__init__(nn.Linear(inputs, 4), norm, nn.ReLU(), nn.Linear(4, 4))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self:
            features = layer(features)
        return features


PARTS = [
    ("term", "twice", Twice),
    ("term", "adversary", Adversary),
    ("term", "mining", Mining),
    ("step", "no_cache", NoCache),
    ("parameters", "first", First),
    ("architecture", "normed", Normed),
]


@pytest.fixture(autouse=True)
def parts() -> Iterator[None]:
    """Parts that are known for the time of one test."""
    for kind, name, cls in PARTS:
        registry.discover(kind)
        registry.register(kind, name)(cls)  # type: ignore[type-var]
    yield
    for kind, name, _ in PARTS:
        registry.unregister(kind, name)


def test_views_of_a_row_are_one_unit(table: Bench) -> None:
    job = Job(stage(objective="twice", batch=6), table.model, table.context())
    (batch,) = job._next_batches()
    losses, logged = job.objective(batch, training=True)
    rows = functional.cross_entropy(job.forward(batch.inputs), batch.targets, reduction="none")
    torch.testing.assert_close(losses[MODEL], 2 * rows)
    assert logged["seen"] == 2.0
    # and so a step is as if the rate were twice as high
    double = trained(table, stage(step={"sgd": 0.2}))
    assert close(trained(table, stage(objective="twice", step={"sgd": 0.1})), double)


def test_terms_are_summed_by_weight(table: Bench) -> None:
    context = table.context()
    both = stage(objective={"supervised": 0.5, "twice": 0.25})
    got = weights(train(both, table.model, context))
    assert close(got, trained(table, stage()))
    line = next(x for x in context.metrics.lines if x["kind"] == "step")
    assert {"loss", "loss.supervised", "loss.twice", "seen"} <= set(line)
    assert line["loss"] == pytest.approx(line["loss.supervised"] + line["loss.twice"], abs=1e-6)


def test_two_players_each_learn_from_their_own_loss(table: Bench) -> None:
    made = stage(
        objective={"supervised": {}, "adversary": {"weight": 0.5}},
        step={"sgd": 0.1},
        players={"critic": {"step": {"sgd": {"lr": 0.3, "momentum": 0.5}}}},
    )
    job = Job(made, table.model, table.context())
    critic = job.networks["critic"]
    start = {n: t.detach().clone() for n, t in critic.state_dict().items()}
    made.place.run(job)
    model = job.finish()

    network, other = table.model.copy().network.train(), nn.Linear(2, 1)
    other.load_state_dict(start)
    ours = torch.optim.SGD(network.parameters(), lr=0.1)
    theirs = torch.optim.SGD(other.parameters(), lr=0.3, momentum=0.5)
    for batch in batches(table, made):
        outputs = network(**batch.inputs)
        fake = other(outputs)[:, 0]
        real = other(functional.one_hot(batch.targets, 2).float())[:, 0]
        mine = functional.cross_entropy(outputs, batch.targets)
        mine = mine + 0.5 * functional.softplus(-fake).mean()
        critics = 0.5 * (functional.softplus(fake) + functional.softplus(-real)).mean()
        g = torch.autograd.grad(mine, list(network.parameters()), retain_graph=True)
        d = torch.autograd.grad(critics, list(other.parameters()))
        for p, grad in zip([*network.parameters(), *other.parameters()], [*g, *d], strict=True):
            p.grad = grad
        ours.step()
        theirs.step()
    assert close(weights(model), dict(network.state_dict()))
    assert close(dict(critic.state_dict()), dict(other.state_dict()))
    assert not close(dict(critic.state_dict()), start, 1e-3)
    assert not any("critic" in name for name in model.network.state_dict())
    lines = job.context.metrics.lines
    assert all("loss.critic" in x for x in lines if x["split"] == "train")


# -- where from -----------------------------------------------------------------------------------


def test_a_term_may_bring_a_source_that_looks_at_the_model(table: Bench, tmp_path: Path) -> None:
    made = stage(objective="mining", epochs=2)
    job = Job(made, table.model, table.context())
    network = table.model.copy().network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    twin = Mining().source(job.setup)
    state, chosen = twin.init(), []
    while not job.done:
        batch, state = twin.next(state, Bench(table.dataset, job.model, table.task).model)
        job.step()
        optimiser.zero_grad()
        functional.cross_entropy(network(**batch.inputs), batch.targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        chosen.append(len(batch))
    assert job.state == state
    assert state["chosen"] == sum(chosen) < table.dataset.size("train") * 2
    assert close(weights(job.finish()), dict(network.state_dict()))


def resumed(found: Bench, made: Finetune, folder: Path, stop_at: int) -> Model:
    """The model of a job that was stopped after so many steps, its last step lost."""
    job = Job(made, found.model, found.context(folder))
    for _ in range(stop_at):
        job.step()
    job.checkpoint()
    job.step()
    job.close()
    job = Job(made, found.model, found.context(folder))
    assert job.steps_done == stop_at
    made.place.run(job)
    return job.finish()


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "mining"},
        {"objective": {"supervised": {}, "adversary": {}}},
        {"step": {"adamw": 0.01, "ema": 0.9, "cosine": {"warmup": 2}, "accumulate": 2}},
        {"step": {"adamw": 0.3, "early_stopping": 1}, "epochs": 6},
    ],
    ids=["source", "players", "averages", "stopping"],
)
def test_a_resumed_job_ends_with_the_same_bits(
    settings: dict[str, Any], table: Bench, tmp_path: Path
) -> None:
    made = stage(**settings)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = trained(table, made, tmp_path / "whole")
    parts = weights(resumed(table, made, tmp_path / "parts", 4))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    first, second = (tmp_path / n / "metrics.jsonl" for n in ("whole", "parts"))
    assert first.read_bytes() == second.read_bytes()


# -- how: early stopping, precision ---------------------------------------------------------------


def valid_loss(found: Bench, model: Model) -> float:
    encoded = model.preprocessing.encode(found.dataset.rows("valid"))
    outputs = torch.from_numpy(model.outputs(encoded))
    targets = torch.from_numpy(found.dataset.targets("valid").copy())
    return float(functional.cross_entropy(outputs, targets))


@pytest.mark.parametrize("ema", [{}, {"ema": 0.5}])
def test_early_stopping_keeps_the_best_weights(ema: dict[str, Any], table: Bench) -> None:
    made = stage(step={"sgd": {"lr": 1.5, "momentum": 0.9}, "early_stopping": 3, **ema}, epochs=40)
    context = table.context()
    model = train(made, table.model, context)
    curve = [x["loss"] for x in context.metrics.lines if x["split"] == "valid"]
    best = int(np.argmin(curve))
    assert len(curve) == best + 1 + 3 < 40  # three epochs without a better one
    assert valid_loss(table, model) == pytest.approx(min(curve), abs=1e-6)
    assert valid_loss(table, model) < curve[-1] - 1e-3
    assert context.used["best_valid_loss"] == min(curve)
    assert context.used["steps"] == len(curve) * math.ceil(table.dataset.size("train") / 8)


def test_what_validation_steers_does_not_depend_on_curves(table: Bench) -> None:
    step = {"sgd": {"lr": 1.5, "momentum": 0.9}, "early_stopping": 3}
    steered, silent = table.context(), table.context()
    wanted = train(stage(step=step, epochs=40), table.model, steered)
    got = train(stage(step=step, epochs=40, curves=False), table.model, silent)
    assert silent.used["steps"] == steered.used["steps"]
    assert silent.used["best_valid_loss"] == steered.used["best_valid_loss"]
    torch.testing.assert_close(
        got.network.state_dict(), wanted.network.state_dict(), rtol=0, atol=0
    )


def test_bfloat16_learns_what_float32_does(table: Bench, text: Bench) -> None:
    for found in (table, text):
        fp32 = trained(found, stage(step={"precision": "fp32", "sgd": 0.1}))
        bf16 = trained(found, stage(step={"precision": "bf16", "sgd": 0.1}))
        start = weights(found.model)
        moved = torch.cat([(fp32[n] - start[n]).flatten() for n in fp32]).norm()
        apart = torch.cat([(fp32[n] - bf16[n]).flatten() for n in fp32]).norm()
        assert 0 < apart < 0.05 * moved
        assert all(t.dtype == torch.float32 for t in bf16.values() if t.is_floating_point())


def test_another_dropout_for_the_stage(table: Bench, home: Path) -> None:
    model = ModelConfig(name="mlp", settings={"hidden": [6], "dropout": 0.4})
    data = DataConfig(path="table.csv", label="label", drop=("patient",))
    found = bench(data, model, home)
    rates: list[float] = []
    job = Job(stage(step={"sgd": 0.1, "dropout": 0.0}), found.model, found.context())
    rates += [m.p for m in job.model.network.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.0, 0.0]
    made = stage(step={"sgd": 0.1, "dropout": 0.0})
    after = train(made, found.model, found.context())
    rates = [m.p for m in after.network.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.4, 0.0]  # of the trunk and of the head, as they were
    expected = by_hand_without_dropout(found, made)
    assert close(weights(after), expected)
    assert not close(trained(found, stage()), expected, 1e-4)


def by_hand_without_dropout(found: Bench, made: Finetune) -> Weights:
    network = found.model.copy().network.eval()  # there is nothing else that tells the modes apart
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for batch in batches(found, made):
        optimiser.zero_grad()
        functional.cross_entropy(network(**batch.inputs), batch.targets).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return {n: t.detach() for n, t in network.state_dict().items()}


def test_a_loss_that_is_no_number_ends_the_stage(table: Bench) -> None:
    before = weights(table.model)
    with pytest.raises(UsageError, match=r"is (nan|inf) at step \d+; lower lr") as caught:
        trained(table, stage(step={"sgd": 1e12}, epochs=20))
    assert caught.value.where == "stages[0].finetune"
    assert all(torch.equal(t, before[n]) for n, t in weights(table.model).items())


# -- frozen prefixes and norms --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "parameters", "cut"),
    [
        ("table", "head", "pool"),
        ("table", {"last": 1}, "backbone.layers.0"),
        ("text", "head", "pool"),
        ("text", {"last": 1}, "backbone.encoder.layer.0"),
        ("text", {"lora": {"rank": 2, "blocks": 1}}, "backbone.encoder.layer.0"),
    ],
)
def test_a_cached_prefix_gives_the_same_weights(
    which: str, parameters: Any, cut: str, table: Bench, text: Bench
) -> None:
    found = {"table": table, "text": text}[which]
    settings = {"parameters": parameters, "epochs": 3}
    context = found.context()
    cached = weights(train(stage(**settings, step={"adamw": 0.02}), found.model, context))
    assert context.used["frozen_prefix"] == cut
    step = {"adamw": 0.02, "no_cache": {}}
    without = found.context()
    plain = weights(train(stage(**settings, step=step), found.model, without))
    assert "frozen_prefix" not in without.used
    assert close(cached, plain, 1e-5)
    valid = [
        [x["loss"] for x in c.metrics.lines if x["split"] == "valid"] for c in (context, without)
    ]
    assert valid[0] == pytest.approx(valid[1], abs=1e-5)


def normed(home: Path, affine: bool = True) -> Bench:
    model = ModelConfig(name="normed", settings={"affine": affine})
    found = bench(DataConfig(path="table.csv", label="label", drop=("patient",)), model, home)
    norm = found.model.network.get_submodule("backbone.1")
    with torch.no_grad():  # statistics of some pretraining
        norm.get_buffer("running_mean").fill_(0.3)
        norm.get_buffer("running_var").fill_(1.7)
    return found


def statistics(found: Weights) -> Weights:
    return {n: t for n, t in found.items() if "running" in n or "batches" in n}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("parameters", ["head", "first", {"last": 1}, {"lora": 2}])
@pytest.mark.parametrize("step", [{"sgd": 0.1}, {"sgd": 0.1, "no_cache": {}}])
def test_a_frozen_batch_norm_never_moves_its_statistics(
    step: dict[str, Any], parameters: Any, affine: bool, home: Path
) -> None:
    found = normed(home, affine)
    before = statistics(weights(found.model))
    assert len(before) == 3
    after = statistics(trained(found, stage(parameters=parameters, step=step)))
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_that_moves_does(affine: bool, home: Path) -> None:
    found = normed(home, affine)
    expected = by_hand(found, stage(), lambda n: torch.optim.SGD(n.parameters(), lr=0.1))
    got = trained(found, stage())
    assert close(got, dict(expected.state_dict()))
    assert not close(statistics(got), statistics(weights(found.model)), 1e-3)


def test_the_best_weights_come_with_their_statistics(home: Path, tmp_path: Path) -> None:
    found = normed(home)
    step = {"sgd": {"lr": 0.3, "momentum": 0.9}, "early_stopping": 3}
    context = found.context()
    model = train(stage(step=step, epochs=30), found.model, context)
    curve = [x["loss"] for x in context.metrics.lines if x["split"] == "valid"]
    assert np.argmin(curve) < len(curve) - 1
    assert valid_loss(found, model) == pytest.approx(min(curve), abs=1e-6)
    again = resumed(found, stage(step=step, epochs=30), tmp_path, 3 * 6)
    assert all(torch.equal(t, weights(model)[n]) for n, t in weights(again).items())


# -- what is opened and said ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "opened"),
    [({}, {"train", "valid"}), ({"curves": False}, {"train"})],
)
def test_only_the_splits_that_are_declared_are_opened(
    settings: dict[str, Any], opened: set[str], table: Bench
) -> None:
    context = table.context()
    context.dataset.opened.clear()
    made = stage(**settings)
    train(made, table.model, context)
    assert context.dataset.opened == opened
    assert {read.split for read in made.effects(context.plan).reads} == opened


def test_what_is_written_down(table: Bench, tmp_path: Path) -> None:
    context = table.context(tmp_path)
    train(stage(epochs=1.5), table.model, context)
    steps = math.ceil(table.dataset.size("train") / 8)
    total = math.ceil(1.5 * steps)
    assert context.used == {
        "precision": "fp32",
        "channels_last": False,
        "attention": None,
        "steps": total,
        "epochs": round(total / steps, 4),
        "batch": 8,
        "rows": table.dataset.size("train"),
        "moving": table.model.parameter_count(),
    }
    lines = context.metrics.lines
    kinds = [(x["kind"], x["split"], x["step"]) for x in lines]
    assert [k for k in kinds if k[0] == "step"] == [("step", "train", i + 1) for i in range(total)]
    ends = [(k[1], k[2]) for k in kinds if k[0] == "epoch"]
    assert ends == [("train", steps), ("valid", steps), ("train", total), ("valid", total)]
    mean = np.mean([x["loss"] for x in lines if x["kind"] == "step"][:steps])
    first = next(x for x in lines if x["kind"] == "epoch" and x["split"] == "train")
    assert first["loss"] == pytest.approx(mean, abs=1e-7)
    assert not {"time", "seconds"} & {key for x in lines for key in x}


def test_a_long_stage_writes_few_lines(table: Bench) -> None:
    context = table.context()
    train(stage(epochs=120, curves=False), table.model, context)
    steps = context.used["steps"]
    assert steps > 600
    assert 150 <= sum(x["kind"] == "step" for x in context.metrics.lines) <= 400


def test_numbers_are_learnt_standardised_and_reported_in_their_unit(home: Path) -> None:
    data = DataConfig(path="table.csv", label="b", drop=("patient", "label"))
    task = build_part("task", "tabular-regression")
    found = bench(data, ModelConfig(name="mlp", settings={"hidden": [4]}), home, task)
    context = found.context()
    model = train(stage(step={"sgd": 0.05}, epochs=3), found.model, context)
    said = model.predict(found.dataset.rows("valid")).values
    assert said is not None
    rmse = float(np.sqrt(np.mean((said - found.dataset.targets("valid")) ** 2)))
    last = [x for x in context.metrics.lines if x["split"] == "valid"][-1]
    assert last["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert model.preprocessing.target is not None
    assert last["loss"] == pytest.approx((rmse / model.preprocessing.target.std) ** 2, rel=1e-5)
