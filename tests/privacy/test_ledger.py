"""The ledger: what is granted, what is refused, and that asking twice is charged once."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assay.claims.signing import Signer
from assay.errors import BudgetError, LoadError, UsageError
from assay.files import sha256
from assay.privacy.events import Event
from assay.privacy.ledger import Budget, Grant, Ledger, Policy, Request
from assay.privacy.ledger import chain as chain_module
from assay.privacy.ledger import mark as mark_module
from assay.privacy.ledger.grants import hex_of

POLICY = Policy(budgets=(Budget(epsilon=1.0, delta=1e-5),))


def pure(epsilon: float, data: str = "ward", unit: str = "row") -> Event:
    return Event(mechanism="pure", epsilon=epsilon, data=data, unit=unit)


def noised(noise: float = 20.0, data: str = "ward") -> Event:
    return Event(noise_multiplier=noise, data=data)


def asks(*events: Event, **changes: Any) -> Request:
    whole = {"recipe": "wards", "model": "mlp", "stages": ("finetune",), "n_units": 500}
    return Request(**{**whole, "events": events, **changes})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def ledger(place: Path) -> Ledger:
    return Ledger.create(place, policy=POLICY)


def signer(seed: int = 1) -> Signer:
    key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return Signer(key, sha256(key.public_key().public_bytes_raw()))


# -- granting ------------------------------------------------------------------------------------


def test_a_run_is_charged_before_it_reads(ledger: Ledger) -> None:
    receipt = ledger.reserve("run-1", asks(pure(0.25)))
    assert (receipt.run, receipt.row) == ("run-1", 1)
    (charge,) = receipt.charged
    assert (charge.data, charge.unit, charge.epsilon) == ("ward", "row", 0.25)
    (balance,) = ledger.balance()
    assert (balance.spent, balance.left, balance.share, balance.runs) == (0.25, 0.75, 0.25, 1)
    assert receipt.digest == ledger.rows()[-1].digest
    assert receipt.request == asks(pure(0.25)).digest


def test_asking_twice_is_charged_once(ledger: Ledger, place: Path) -> None:
    first = ledger.reserve("run-1", asks(pure(0.9)))
    assert Ledger.open(place).reserve("run-1", asks(pure(0.9))) == first
    assert len(ledger.rows()) == 2
    # also when nothing more would fit
    assert ledger.reserve("run-1", asks(pure(0.9))) == first
    with pytest.raises(BudgetError, match="charged for another request"):
        ledger.reserve("run-1", asks(pure(0.05)))
    assert len(ledger.rows()) == 2


def test_nobody_asks_for_a_run_without_a_name(ledger: Ledger) -> None:
    for name in ("", "a\nb", "x" * 201):
        with pytest.raises(BudgetError, match="name of 1 to 200"):
            ledger.reserve(name, asks(pure(0.1)))


def test_an_overdrawn_budget_says_how_much_is_left(ledger: Ledger) -> None:
    ledger.reserve("a", asks(pure(0.75)))
    with pytest.raises(BudgetError) as refused:
        ledger.reserve("b", asks(pure(0.5)))
    assert refused.value.exit_code == 5
    line = refused.value.line()
    assert "costs epsilon 0.5 of the data 'ward' by 'row', and 0.25 of the budget of 1" in line
    assert "spend at most 0.25" in line
    assert "\n" not in line
    assert len(ledger.rows()) == 2
    ledger.reserve("c", asks(pure(0.25)))
    with pytest.raises(BudgetError, match="ask the owner for a larger budget"):
        ledger.reserve("d", asks(pure(1e-9)))


def test_a_refused_run_learns_how_much_noise_would_do(ledger: Ledger) -> None:
    ledger.reserve("a", asks(noised(10.0)))
    with pytest.raises(BudgetError, match="multiply the noise by at least") as refused:
        ledger.reserve("b", asks(noised(4.0)))
    assert refused.value.mend is not None
    factor = float(refused.value.mend.split("at least ")[1].split(",")[0])
    with pytest.raises(BudgetError):
        ledger.reserve("b", asks(noised(4.0 * factor * 0.97)))
    ledger.reserve("b", asks(noised(4.0 * factor)))


def test_noise_never_fits_a_pure_budget(place: Path) -> None:
    ledger = Ledger.create(place, policy=Policy(budgets=(Budget(epsilon=5.0),)))
    with pytest.raises(BudgetError, match="use pure mechanisms"):
        ledger.reserve("a", asks(noised(1000.0)))
    ledger.reserve("b", asks(pure(5.0)))


def test_each_data_set_and_unit_has_its_own_account(ledger: Ledger) -> None:
    both = asks(pure(0.6), pure(0.7, "clinic"), pure(0.8, unit="patient"), pure(0.1))
    assert [c.epsilon for c in ledger.reserve("a", both).charged] == [0.7, 0.8, 0.7]
    with pytest.raises(BudgetError, match="'clinic'"):
        ledger.reserve("b", asks(pure(0.2), pure(0.4, "clinic")))
    assert [(b.data, b.unit, b.spent) for b in ledger.balance()] == [
        ("clinic", "row", 0.7),
        ("ward", "patient", 0.8),
        ("ward", "row", 0.7),
    ]


def test_versions_of_growing_data_can_share_a_budget(place: Path) -> None:
    policy = Policy(budgets=(Budget(data="ward*", epsilon=1.0, together=True),))
    ledger = Ledger.create(place, policy=policy)
    ledger.reserve("a", asks(pure(0.6, "ward-1")))
    with pytest.raises(BudgetError, match=r"0\.4 of the budget"):
        ledger.reserve("b", asks(pure(0.6, "ward-2")))
    with pytest.raises(BudgetError, match="no budget for the data 'clinic'"):
        ledger.reserve("c", asks(pure(0.1, "clinic")))
    assert [(b.data, b.spent) for b in ledger.balance()] == [("ward*", 0.6)]


# -- requests that cannot be counted with --------------------------------------------------------

TINY = math.nextafter(sys.float_info.min, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": math.nan},
        {"epsilon": math.inf},
        {"epsilon": -0.1},
        {"epsilon": 5e-324},
        {"epsilon": TINY},
        {"steps": 0},
        {"steps": -3},
        {"steps": 10**13},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": math.nan},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": math.inf},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": -1.0},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": 0.0},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": TINY},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": 1.0, "sampling": TINY},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": 1.0, "sampling": 1.5},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": 1.0, "sampling": math.nan},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": 1e-200},
        {"mechanism": "gaussian", "epsilon": None, "noise_multiplier": 1e200},
    ],
)
def test_strange_numbers_are_refused_before_anything_is_written(
    ledger: Ledger, place: Path, changes: dict[str, Any]
) -> None:
    # built without validation, as an attacker's program would
    event = pure(0.1).model_copy(update=changes)
    request = asks(pure(0.1)).model_copy(update={"events": (event,)})
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(BudgetError) as refused:
        ledger.reserve("bad", request)
    assert "\n" not in refused.value.line()
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert ledger.reserve("good", asks(pure(1.0))).row == 1


def test_no_float_is_stored(ledger: Ledger) -> None:
    ledger.reserve("a", asks(noised(17.5), pure(0.3)))
    with ledger._store.reading() as connection:
        lines = [row.line for row in ledger._store.rows(connection)]

    def refuse(text: str) -> float:
        raise AssertionError(f"a float was stored: {text}")

    for line in lines:
        json.loads(line, parse_float=refuse)


# -- the policy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "request_", "says"),
    [
        ({"stages": ("fine*",)}, {"stages": ("finetune", "prune")}, "the stage 'prune'"),
        ({"models": ("bert", "m?p")}, {"model": "gpt"}, "the model 'gpt'"),
        ({"smallest_cohort": 600}, {}, "500 privacy units are fewer"),
        ({"largest_epsilon": 0.2}, {}, "more than the 0.2 that the policy allows one run"),
    ],
)
def test_a_policy_refuses(
    ledger: Ledger, policy: dict[str, Any], request_: dict[str, Any], says: str
) -> None:
    request = asks(pure(0.3), **request_)
    changed = POLICY.model_copy(update=policy)
    ledger.set_policy(changed)
    with pytest.raises(BudgetError, match=says):
        ledger.reserve("a", request)
    assert len(ledger.rows()) == 2
    ledger.set_policy(POLICY)
    ledger.reserve("a", request)
    # what was granted once is not asked about again
    ledger.set_policy(changed)
    assert ledger.reserve("a", request).row == 3


def test_a_policy_can_grow_and_shrink(ledger: Ledger, place: Path) -> None:
    ledger.reserve("a", asks(pure(1.0)))
    more = Policy(budgets=(Budget(epsilon=2.0, delta=1e-5),))
    ledger.set_policy(more)
    ledger.set_policy(more)
    assert [row.kind for row in ledger.rows()] == ["open", "spend", "policy"]
    ledger.reserve("b", asks(pure(0.5)))
    ledger.set_policy(POLICY)
    with pytest.raises(BudgetError):
        ledger.reserve("c", asks(pure(0.1)))
    (balance,) = ledger.balance()
    assert (balance.spent, balance.left) == (1.5, 0.0)
    assert Ledger.open(place).audit().policies == 3


def test_data_that_the_policy_knows_no_more_stay_listed(ledger: Ledger) -> None:
    ledger.reserve("a", asks(pure(0.5)))
    ledger.reserve("b", asks(noised(data="clinic")))
    ledger.set_policy(Policy(budgets=(Budget(data="other", epsilon=1.0),)))
    one, two, unused = ledger.balance()
    assert (one.data, one.epsilon, one.left, one.share) == ("clinic", 0.0, 0.0, None)
    assert (two.data, two.epsilon, two.spent) == ("ward", 0.0, 0.5)
    assert one.spent is not None and 0 < one.spent < 1
    assert (unused.data, unused.epsilon, unused.spent) == ("other", 1.0, 0.0)
    with pytest.raises(BudgetError, match="no budget for the data 'ward'"):
        ledger.reserve("c", asks(pure(0.1)))


def test_what_is_no_policy_is_refused() -> None:
    for bad in ({"epsilon": 0.0}, {"epsilon": math.nan}, {"epsilon": 1.0, "delta": 1.0}):
        with pytest.raises(ValueError):
            Budget(**bad)
    with pytest.raises(ValueError, match="no Ed25519 public key"):
        Policy(budgets=POLICY.budgets, keys=("abc",))
    with pytest.raises(ValueError):
        Policy(budgets=())


def test_an_account_keeps_its_orders_when_the_policy_changes(ledger: Ledger) -> None:
    ledger.reserve("a", asks(noised()))
    ledger.set_policy(Policy(budgets=(Budget(epsilon=9.0, delta=1e-6),)))
    ledger.reserve("b", asks(noised()))
    one, two = (row.body["costs"][0]["orders"] for row in ledger.rows() if row.kind == "spend")
    assert one != two
    assert ledger.audit().runs == 2


# -- grants --------------------------------------------------------------------------------------


@pytest.fixture
def guarded(place: Path) -> Ledger:
    keys = (hex_of(signer().public),)
    return Ledger.create(place, policy=Policy(budgets=POLICY.budgets, keys=keys))


def test_a_policy_may_want_the_owners_signature(guarded: Ledger) -> None:
    request = asks(pure(0.1))
    with pytest.raises(BudgetError, match=f"--request {request.digest}"):
        guarded.reserve("a", request)
    grant = Grant(ledger=guarded.identity(), request=request.digest).sign(signer())
    allowed = request.model_copy(update={"grant": grant})
    assert allowed.digest == request.digest
    receipt = guarded.reserve("a", allowed)
    assert guarded.reserve("a", request) == receipt
    with pytest.raises(BudgetError, match="used up: it was for 1"):
        guarded.reserve("b", allowed)
    # the same permission written in another way is the same permission
    spaced = allowed.model_copy(update={"grant": json.dumps(json.loads(grant), indent=1)})
    with pytest.raises(BudgetError, match="used up"):
        guarded.reserve("b", spaced)
    assert guarded.audit().runs == 1


def _forged(grant: str) -> str:
    envelope = json.loads(grant)
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("B" if signature[0] != "B" else "C") + signature[1:]
    return json.dumps(envelope)


@pytest.mark.parametrize(
    ("grant", "says"),
    [
        ({"recipe": "others"}, "for the recipe 'others', not 'wards'"),
        ({"request": "0" * 64}, "for another request"),
        ({"recipe": "wards", "ledger": "elsewhere"}, "for another ledger"),
        ({"recipe": "wards", "epsilon": 0.05}, "allows epsilon 0.05 a run"),
        ({"recipe": "wards", "by": 2}, "not signed by an owner"),
        ({"recipe": "wards", "forged": True}, "not signed by an owner"),
        ("nonsense", "not valid JSON"),
        ("[]", "not a DSSE envelope"),
    ],
)
def test_a_grant_allows_what_it_says(guarded: Ledger, grant: Any, says: str) -> None:
    if isinstance(grant, dict):
        by, forged = grant.pop("by", 1), grant.pop("forged", False)
        grant = Grant(**{"ledger": guarded.identity(), **grant}).sign(signer(by))
        grant = _forged(grant) if forged else grant
    with pytest.raises(BudgetError, match=says) as refused:
        guarded.reserve("a", asks(pure(0.1), grant=grant))
    assert refused.value.exit_code == 5
    assert len(guarded.rows()) == 1


def test_a_grant_can_be_for_several_runs(guarded: Ledger) -> None:
    grant = Grant(ledger=guarded.identity(), recipe="wards", uses=2, epsilon=0.1).sign(signer())
    for run in ("a", "b"):
        guarded.reserve(run, asks(pure(0.1), grant=grant))
    with pytest.raises(BudgetError, match="used up: it was for 2"):
        guarded.reserve("c", asks(pure(0.1), grant=grant))


def test_a_grant_is_for_one_thing() -> None:
    for both in ({}, {"recipe": "a", "request": "b"}):
        with pytest.raises(ValueError, match="give one"):
            Grant(ledger="x", **both)


# -- opening -------------------------------------------------------------------------------------


def test_what_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(LoadError, match="assay site init"):
            Ledger.open(place)
    with pytest.raises(LoadError, match="postgresql"):
        Ledger.open("nonsense://x/y")
    with pytest.raises(LoadError, match="sqlite"):
        Ledger.open("sqlite:///x.db")


def test_nothing_is_made_over_something(ledger: Ledger, place: Path, tmp_path: Path) -> None:
    ledger.reserve("a", asks(pure(0.1)))
    with pytest.raises(LoadError, match="there is something already"):
        Ledger.create(place, policy=POLICY)
    assert len(ledger.rows()) == 2
    with pytest.raises(UsageError, match=r"\.pgpass"):
        Ledger.create(tmp_path / "new", policy=POLICY, url="postgresql+psycopg://u:secret@h/d")
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_only_the_owner_can_read_a_site(ledger: Ledger, place: Path) -> None:
    ledger.reserve("a", asks(pure(0.1)))
    assert place.stat().st_mode & 0o077 == 0
    for name in ("ledger.sqlite", "mark.json"):
        assert (place / name).stat().st_mode & 0o077 == 0


def test_missing_libraries_are_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(LoadError, match=r"pip install 'assay\[private\]'"):
        Ledger.create(place, policy=POLICY)
    assert not place.exists()


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LoadError, match=r"pip install 'assay\[postgres\]'"):
        Ledger.open("postgresql+psycopg:///x")


# -- what a crash or a clock may do --------------------------------------------------------------


def test_the_clock_may_go_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(["2026-01-02T00:00:00+00:00", "1970-01-01T00:00:00+00:00", "2031-05-05"])
    monkeypatch.setattr("assay.privacy.ledger.ledger.now", lambda: next(times))
    rows = [ledger.reserve(run, asks(pure(0.2))).row for run in "abc"]
    assert rows == [1, 2, 3]
    assert [row.body["time"][:4] for row in ledger.rows()[1:]] == ["2026", "1970", "2031"]
    assert ledger.audit().runs == 3
    with pytest.raises(BudgetError):
        ledger.reserve("d", asks(pure(0.5)))
    assert chain_module.now().endswith("+00:00")


def test_a_mark_that_could_not_be_raised_lags_and_is_mended(
    ledger: Ledger, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the commit and the mark: charged, not acknowledged, not a rollback."""
    ledger.reserve("a", asks(pure(0.2)))

    def crash(*given: Any) -> None:
        raise LoadError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(mark_module, "write", crash)
        with pytest.raises(LoadError):
            ledger.reserve("b", asks(pure(0.3)))
    assert mark_module.read(place).count == 2
    again = Ledger.open(place)
    assert [row.run for row in again.rows()] == [None, "a", "b"]
    assert again.reserve("b", asks(pure(0.3))).row == 2
    assert mark_module.read(place).count == 3
    assert again.balance()[0].spent == 0.5


def test_the_mark_is_raised_after_the_commit_and_before_the_receipt(
    ledger: Ledger, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = mark_module.write

    def write(folder: Path, mark: mark_module.Mark) -> None:
        seen.append(len(Ledger.open(place).rows()))
        real(folder, mark)

    monkeypatch.setattr(mark_module, "write", write)
    receipt = ledger.reserve("a", asks(pure(0.2)))
    assert seen == [receipt.row + 1] == [mark_module.read(place).count]
