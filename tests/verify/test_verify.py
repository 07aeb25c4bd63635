from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.claims.passport import Origin, Passport
from assay.errors import ArtefactError, LoadError, UsageError
from assay.verify import Verification, verify

KEYS = [
    "kind",
    "value",
    "unit",
    "dataset",
    "split",
    "conditions",
    "measured",
    "interval",
    "n",
    "status",
    "stage",
    "method",
]
Change = Callable[[list[Any]], None]


def statuses(found: Verification) -> dict[str, str]:
    return {finding.claim.kind: finding.status for finding in found.findings}


def why(found: Verification, kind: str = "quality.accuracy") -> str:
    return next(f.why for f in found.findings if f.claim.kind == kind)


def test_a_sound_artefact(folder: Path) -> None:
    found = verify(folder)
    assert found.ok
    assert found.exit_code == 0
    assert found.authenticated is False
    assert set(statuses(found).values()) == {"holds"}
    assert found.lines()[0] == "verified: 3 holds; consistent, not authenticated"


def test_the_json_is_what_was_promised(folder: Path) -> None:
    said = verify(folder).as_json()
    assert list(said) == ["ok", "authenticated", "claims"]
    assert [list(row) for row in said["claims"]] == [KEYS] * 3
    share = said["claims"][2]["value"]
    assert said["claims"][2] == {
        "kind": "quality.accuracy",
        "value": share,
        "unit": "fraction",
        "dataset": "rows",
        "split": "test",
        "conditions": {"threshold": 0.5},
        "measured": share,
        "interval": [share - 0.1, share + 0.1],
        "n": 12,
        "status": "holds",
        "stage": 0,
        "method": "counted",
    }
    assert json.loads(json.dumps(said)) == said


def test_progress_is_told(folder: Path) -> None:
    told: list[tuple[int, int]] = []

    class Listener:
        def update(self, done: int, total: int, text: str = "") -> None:
            told.append((done, total))

        def say(self, text: str) -> None:
            raise AssertionError(text)

    verify(folder, progress=Listener())
    assert told == [(0, 1), (1, 1)]


# --- forging ---


def edit(**changes: Any) -> Change:
    """Edit the last claim."""
    return lambda statements: statements[-1]["predicate"]["claim"]["claim"].update(changes)


def add(**changes: Any) -> Change:
    def change(statements: list[Any]) -> None:
        statements.append(json.loads(json.dumps(statements[-1])))
        edit(**changes)(statements)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (edit(value=0.999), "measured otherwise"),
        (edit(value="very good"), "measured otherwise"),
        (edit(value=None), "measured otherwise"),
        (edit(interval=[0.66, 0.67]), "its interval is"),
        (edit(interval=None), "its interval is"),
        (edit(n=100_000), "its n is 12, not 100000"),
        (edit(unit="percent"), "its unit is 'fraction'"),
        (edit(level=0.99), "its level is 0.95, not 0.99"),
        (edit(method="clinical trial"), "its method is 'counted'"),
        (edit(nature="historical"), "its nature is 'measured'"),
        (edit(conditions={"threshold": 0.9}), "does not measure such a claim"),
        (edit(split="train"), "does not measure such a claim"),
        (edit(dataset="patients"), "does not measure such a claim"),
        (edit(kind="quality.auroc"), "does not measure such a claim"),
        (add(kind="quality.auroc", value=0.999), "does not measure such a claim"),
        (add(value=0.999), "measured otherwise"),
    ],
)
def test_a_forged_claim_under_a_rebuilt_chain_is_found_wrong(
    make: Any, folder: Path, change: Change, reason: str
) -> None:
    make.forge(folder, change)
    found = verify(folder)
    assert not found.ok
    assert found.exit_code == 3
    assert [f.status for f in found.findings].count("fails") == 1
    assert reason in found.findings[-1].why
    assert found.lines()[0].startswith("NOT verified: ")


def test_a_claim_forged_onto_a_stage_that_measures_nothing(make: Any) -> None:
    passport = make.stage(make.stage(make.start()), silent=True, keeps=("*",), claims=False)
    folder = make.write(passport)

    def change(statements: list[Any]) -> None:
        forged = json.loads(json.dumps(statements[-2]))
        forged["predicate"]["claim"]["stage"] = 1
        forged["predicate"]["claim"]["claim"]["value"] = 0.999
        statements.append(forged)

    make.forge(folder, change)
    found = verify(folder)
    assert statuses(found)["quality.accuracy"] == "fails"
    assert why(found) == "its stage does not measure such a claim"


def test_a_claim_kept_by_a_lie_is_found_wrong(
    make: Any, weigh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passport = make.stage(make.stage(make.start()), silent=True, claims=False)
    folder = make.write(passport)
    assert statuses(verify(folder))["quality.accuracy"] == "void"

    def change(statements: list[Any]) -> None:
        statements[-1]["predicate"]["stage"]["effects"]["keeps"] = ["*"]

    make.forge(folder, change)
    # the later stage did change the function: what is measured now is something else
    monkeypatch.setattr(
        weigh, "first", lambda model, context: context.claim(_other(context.dataset.card.name))
    )
    real = weigh.measure

    def changed(self: Any, model: Any, context: Any) -> None:
        real(self, model, context)
        context.claim(_other(context.dataset.card.name))

    monkeypatch.setattr(weigh, "measure", changed)
    assert statuses(verify(folder))["quality.accuracy"] == "fails"


def _other(dataset: str) -> Any:
    from assay.claims import Claim

    return Claim(
        kind="quality.accuracy",
        value=0.1,
        unit="fraction",
        dataset=dataset,
        split="test",
        conditions={"threshold": 0.5},
    )


# --- the signature ---


def test_a_signed_artefact(make: Any, keys: Any) -> None:
    folder = make.write(make.stage(make.start()), signer=keys.signer)
    found = verify(folder, trust=keys.public)
    assert found.ok
    assert found.authenticated
    assert found.words() == f"authenticated by key {keys.signer.keyid[:16]}"
    assert verify(folder).words() == "consistent, not authenticated"


def test_not_authenticated(make: Any, keys: Any, new_keys: Callable[[int], Any]) -> None:
    passport = make.stage(make.start())
    others = make.write(passport, "others", new_keys(2).signer)
    for folder in (make.write(passport, "unsigned"), others):
        with pytest.raises(ArtefactError, match="not authenticated") as caught:
            verify(folder, trust=keys.public)
        assert caught.value.exit_code == 7


def test_a_forged_claim_in_a_signed_artefact(make: Any, keys: Any) -> None:
    folder = make.write(make.stage(make.start()), signer=keys.signer)
    make.forge(folder, edit(value=0.999))
    with pytest.raises(ArtefactError, match="not authenticated: it is not signed"):
        verify(folder, trust=keys.public)
    assert verify(folder).exit_code == 3


def test_inherited_lines_are_vouched_for_by_the_head(make: Any, keys: Any) -> None:
    base = make.write(make.stage(make.start()), "base")
    passport = Passport.read(base)[0].append(make.origin(make.root / "rows.csv"))
    folder = make.write(make.stage(passport, keeps=("*",)), "tuned", keys.signer)
    found = verify(folder, trust=keys.public)
    assert found.ok
    assert "vouches for 5 lines that it did not sign" in found.words()


def test_trust_must_be_a_key(folder: Path) -> None:
    with pytest.raises(UsageError, match="not a public key"):
        verify(folder, trust=folder / "config.json")


# --- the artefact itself ---


def test_nothing_of_a_damaged_artefact_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(folder: Path) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr("assay.models.load.load_model", never)
    (folder / "model.safetensors").write_bytes(b"weightt")
    with pytest.raises(ArtefactError, match=r"model\.safetensors: its content"):
        verify(folder)


def test_a_head_that_was_removed(folder: Path) -> None:
    (folder / "head.json").unlink()
    with pytest.raises(ArtefactError, match=r"no head\.json"):
        verify(folder)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such folder"):
        verify(tmp_path / "none")


def test_an_empty_passport(make: Any) -> None:
    found = verify(make.write(Passport()))
    assert found.ok
    assert found.lines() == ["verified: no claims; consistent, not authenticated"]


# --- replay ---


def test_void_claims_are_listed_and_no_error(make: Any) -> None:
    passport = make.stage(
        make.stage(make.start()), silent=True, keeps=("size.*", "latency.*"), claims=False
    )
    found = verify(make.write(passport), strict=True)
    assert found.ok
    assert statuses(found) == {
        "size.bytes": "holds",
        "latency.p50_ms": "holds",
        "quality.accuracy": "void",
    }
    assert why(found) == "stage 1 (weigh) does not keep it; audit again after it"
    assert found.claims[-1]["measured"] is None


def test_what_is_void_needs_no_model(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("assay.models.load.load_model")
    passport = make.stage(make.stage(make.start()), silent=True, claims=False)
    assert set(statuses(verify(make.write(passport))).values()) == {"void"}


def test_a_later_measurement_supersedes(make: Any) -> None:
    passport = make.stage(make.stage(make.start()))
    found = verify(make.write(passport))
    assert [row["stage"] for row in found.claims] == [1, 1, 1]
    assert found.ok


def test_inherited_claims_are_measured_on_their_own_data(make: Any) -> None:
    base = make.stage(make.start())
    other = make.origin(make.data("others.csv", flip=8))
    passport = make.stage(base.append(other), keeps=("*",))
    found = verify(make.write(passport))
    assert found.ok
    assert [(r["dataset"], r["stage"]) for r in found.claims if r["split"]] == [
        ("rows", -1),
        ("others", 0),
    ]


# --- what cannot be measured ---


def unverifiable(found: Verification, reason: str) -> None:
    assert statuses(found)["quality.accuracy"] == "unverifiable"
    assert reason in why(found)
    assert found.ok


def test_absent_data_make_only_what_needs_them_unverifiable(make: Any, folder: Path) -> None:
    (make.root / "rows.csv").unlink()
    found = verify(folder)
    unverifiable(found, "the data are not there: rows.csv")
    assert found.lines()[0].startswith("verified in part: 2 holds, 1 unverifiable; ")
    assert statuses(found)["size.bytes"] == "holds"
    strict = verify(folder, strict=True)
    assert not strict.ok
    assert strict.exit_code == 3


def test_changed_data(make: Any, folder: Path) -> None:
    make.data(flip=8)
    unverifiable(verify(folder), "the data have changed since the run: their digest is")


def test_damaged_data(make: Any, folder: Path) -> None:
    (make.root / "rows.csv").write_text("")
    unverifiable(verify(folder), "rows.csv")


def test_moved_data(make: Any, folder: Path) -> None:
    (make.root / "elsewhere").mkdir()
    moved = make.root / "elsewhere" / "table.csv"
    (make.root / "rows.csv").rename(moved)
    assert not verify(folder, strict=True).ok
    found = verify(folder, data=str(moved), strict=True)
    assert found.ok
    assert found.claims[-1]["dataset"] == "rows"
    make.data("table.csv", flip=8)
    unverifiable(verify(folder, data="table.csv"), "have changed")
    unverifiable(verify(folder, data="none.csv"), "the data are not there: none.csv")


def test_data_are_found_from_elsewhere(
    make: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert verify(folder, strict=True).ok  # from a folder above the artefact


def test_data_are_found_under_the_folder_they_were_in(make: Any) -> None:
    (make.root / "recipes").mkdir()
    origin = make.origin(make.data("recipes/rows.csv"), "recipes")
    folder = make.write(make.stage(Passport().append(origin)))
    assert verify(folder, strict=True).ok


def test_a_sample_is_nowhere_else(make: Any) -> None:
    origin: Origin = make.origin(make.data())
    sample = origin.model_copy(update={"data_config": {"name": "digits"}})
    folder = make.write(Passport().append(sample))
    with pytest.raises(UsageError, match="the data are the sample 'rows', which comes with assay"):
        verify(folder, data="x.csv")


def test_another_machine(folder: Path, weigh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weigh, "machine", "there")
    found = verify(folder)
    assert found.ok
    assert statuses(found)["latency.p50_ms"] == "unverifiable"
    assert why(found, "latency.p50_ms") == "it cannot be measured on this machine"
    assert statuses(found)["quality.accuracy"] == "holds"
    assert not verify(folder, strict=True).ok


def test_other_threads(folder: Path, weigh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(weigh, "first", lambda model, context: seen.append(context.threads))
    verify(folder)
    assert statuses(verify(folder, threads=2))["latency.p50_ms"] == "fails"
    monkeypatch.setattr(weigh, "machine", "with two threads")
    found = verify(folder, threads=2)
    assert statuses(found)["latency.p50_ms"] == "unverifiable"
    assert seen == [1, 2, 2]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("load", "there: no such thing; look"),
        ("import", "a package is missing: magic"),
        ("value", "measuring again failed: ValueError: what a shape"),
        ("runtime", "measuring again failed: RecursionError: too deep"),
    ],
)
def test_a_measurement_that_fails(
    folder: Path,
    weigh: Any,
    monkeypatch: pytest.MonkeyPatch,
    errors: dict[str, Exception],
    name: str,
    reason: str,
) -> None:
    def fail(model: Any, context: Any) -> None:
        raise errors[name]

    monkeypatch.setattr(weigh, "first", fail)
    found = verify(folder)
    assert set(statuses(found).values()) == {"unverifiable"}
    assert {f.why for f in found.findings} == {reason}


def test_an_artefact_that_contradicts_itself(
    folder: Path, weigh: Any, monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception]
) -> None:
    def fail(*anything: Any) -> None:
        raise errors["artefact"]

    monkeypatch.setattr(weigh, "first", fail)
    with pytest.raises(ArtefactError, match="contradicts itself"):
        verify(folder)
    monkeypatch.setattr("assay.models.load.load_model", fail)
    with pytest.raises(ArtefactError, match="contradicts itself"):
        verify(folder)


@pytest.mark.parametrize("name", ["load", "import"])
def test_a_model_that_cannot_be_loaded_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, errors: dict[str, Exception], name: str
) -> None:
    def fail(folder: Path) -> Any:
        raise errors[name]

    monkeypatch.setattr("assay.models.load.load_model", fail)
    found = verify(folder)
    unverifiable(found, "the model cannot be loaded: ")
    assert found.lines()[0].startswith("nothing could be verified: 3 unverifiable; ")


def test_an_unknown_stage_hides_only_its_own_claims(make: Any) -> None:
    passport = make.stage(make.start())
    passport = make.stage(passport, silent=True, keeps=("*",), claims=False, name="users_own")
    folder = make.write(passport)
    assert verify(folder, strict=True).ok

    def rename(statements: list[Any]) -> None:
        statements[1]["predicate"]["stage"]["name"] = "users_own"

    make.forge(folder, rename)
    unverifiable(verify(folder), "unknown stage 'users_own'")


def test_settings_that_a_stage_does_not_have(make: Any, folder: Path) -> None:
    def change(statements: list[Any]) -> None:
        statements[1]["predicate"]["stage"]["config"] = {"flavour": "sweet"}

    make.forge(folder, change)
    unverifiable(verify(folder), "unknown key 'flavour'")


def test_threads_are_put_back(folder: Path) -> None:
    import torch

    before = torch.get_num_threads()
    verify(folder, threads=before + 1)
    assert torch.get_num_threads() == before


# --- historical claims ---


def test_historical_claims_are_recomputed_from_what_was_used(make: Any) -> None:
    folder = make.write(make.stage(make.start(), used={"steps": 150}))
    found = verify(folder)
    assert found.ok
    assert [r["measured"] for r in found.claims if r["kind"] == "privacy.epsilon"] == [1.5]

    def change(statements: list[Any]) -> None:
        for statement in statements:
            if statement["predicate"]["type"] == "claim":
                claim = statement["predicate"]["claim"]["claim"]
                if claim["kind"] == "privacy.epsilon":
                    claim["value"] = 0.1

    make.forge(folder, change)
    assert statuses(verify(folder))["privacy.epsilon"] == "fails"


def test_a_historical_claim_that_nothing_recomputes(make: Any, folder: Path) -> None:
    make.forge(folder, add(kind="privacy.delta", nature="historical"))
    found = verify(folder)
    assert found.ok
    assert why(found, "privacy.delta") == "nothing recomputes it from what was recorded"


# --- tolerance ---


@pytest.mark.parametrize(
    ("off", "interval", "status"),
    [
        (0.04, None, "holds"),
        (0.06, None, "fails"),
        (0.04, (0.1, 0.1), "holds"),  # three times what the value is off by
        (0.04, (0.13, 0.1), "fails"),
        (0.0, (0.0005, 0.0), "holds"),  # a hundredth of the width
        (0.0, (0.003, 0.0), "fails"),
    ],
)
def test_an_interval_may_move_with_the_value(
    make: Any, off: float, interval: tuple[float, float] | None, status: str
) -> None:
    folder = make.write(make.stage(make.start(), slack=0.05))

    def change(statements: list[Any]) -> None:
        claim = statements[-1]["predicate"]["claim"]["claim"]
        low, high = claim["interval"]
        claim["value"] += off
        if interval is not None:
            claim["interval"] = [low + interval[0], high + interval[1]]

    make.forge(folder, change)
    assert statuses(verify(folder))["quality.accuracy"] == status
