"""What private data are charged: epsilon in words, what was spent by stage, and what it leaves out.

Read from the claims `privacy.epsilon`, from what stages recorded as read, and from the receipts of
the owner's ledger.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from assay.report.numbers import exact, number
from assay.report.reading import EPSILON, RunFiles, as_index, as_list, as_map, identity
from assay.report.strings import Phrase, literal, part_name, recorded, say

#: up to the first nobody can be much surer than before; above the second little is promised
_TIGHT, _LOOSE = 1.0, 10.0
#: above this e^epsilon is no number that tells a reader anything
_TELLING = 20.0
#: what a reading reaches at most that is a disclosure
_SHOWN = frozenset({"claims", "report"})
#: what `by` ends with where building the model was charged
_PREPROCESSING = ": preprocessing"


@dataclass(frozen=True)
class Spent:
    """Equal uses of a private mechanism by one stage.

    Attributes:
        by: the stage.
        what: what was released.
        epsilon: of one use alone.
        exact: the same, not rounded.
        times: how many uses, where there are several.
        noise: noise multiplier.
        sampling: probability with which a unit is taken in a step.
        steps: of one use.
    """

    by: Phrase
    what: Phrase
    epsilon: str
    exact: str
    times: Phrase | None
    noise: str
    sampling: str
    steps: str


@dataclass(frozen=True)
class Promise:
    """What a claim of epsilon says of one data set.

    Attributes:
        name: the data set.
        status: of the claim.
        promised: whether the claim has an epsilon that stands.
        lead: what whoever sees the model can tell.
        formal: the same, exactly; where nothing is promised, why.
        tiles: name, value and exact value of what the claim is made of.
        spent: by stage.
        together: that the whole costs less than the sum, where it does.
        left_out: what is not promised.
    """

    name: str
    status: str
    promised: bool
    lead: Phrase
    formal: tuple[Phrase, ...]
    tiles: tuple[tuple[Phrase, Phrase, str], ...]
    spent: tuple[Spent, ...]
    together: Phrase | None
    left_out: tuple[Phrase, ...]


@dataclass(frozen=True)
class Charged:
    """The section.

    Attributes:
        promises: one a claim.
        uncharged: readings that leave no epsilon to claim; only where none is claimed.
        disclosures: readings whose results reached claims or the report alone.
        receipts: what the owner's ledger acknowledged.
    """

    promises: tuple[Promise, ...]
    uncharged: tuple[Phrase, ...]
    disclosures: tuple[Phrase, ...]
    receipts: tuple[Phrase, ...]


def charged(run: RunFiles) -> Charged | None:
    """What the data are charged; None where no epsilon is claimed and nothing private was read."""
    found = [claim for claim in run.claims if claim.get("kind") == EPSILON]
    promises = tuple(_promise(claim, _details(run, claim)) for claim in found)
    reads = list(_reads(run))
    if not promises and not (run.private and any(read.get("private") for _, read in reads)):
        return None
    others = [(where, read) for where, read in reads if not read.get("private")]
    return Charged(
        promises=promises,
        uncharged=() if promises else tuple(_told(*one) for one in others if not _shown(one[1])),
        disclosures=tuple(_told(*one) for one in others if _shown(one[1])) if run.private else (),
        receipts=tuple(_receipts(run)),
    )


def _reads(run: RunFiles) -> Iterator[tuple[Phrase, Mapping[str, Any]]]:
    """Readings of the run's own data, with who made them."""
    for read in as_list(as_map(run.origins[-1]).get("reads")) if run.origins else ():
        yield say("charged.preprocessing"), as_map(read)
    for stage in run.stages:
        if stage.index >= 0:
            for read in stage.reads:
                yield say("charged.stage", index=stage.index, name=stage.name), read


def _shown(read: Mapping[str, Any]) -> bool:
    return {str(item) for item in as_list(read.get("influences"))} <= _SHOWN


def _told(where: Phrase, read: Mapping[str, Any]) -> Phrase:
    why = recorded(str(read.get("why") or read.get("split") or ""))
    return say("charged.read", where=where, split=read.get("split"), why=why)


def _receipts(run: RunFiles) -> Iterator[Phrase]:
    """What ledgers acknowledged, of this run and of those before it."""
    for origin in run.origins:
        receipt = as_map(origin.get("receipt"))
        row = as_index(receipt.get("row"))
        if row is None or not receipt.get("ledger"):
            continue
        yield say(
            "charged.receipt", ledger=str(receipt["ledger"]), row=f"{row:,}",
            digest=str(receipt.get("digest") or "")[:16], recipe=origin.get("recipe"),
        )  # fmt: skip
        for charge in map(as_map, as_list(receipt.get("charged"))):
            epsilon, delta = number(charge.get("epsilon")), number(charge.get("delta"))
            if epsilon is not None and delta is not None:
                yield say("charged.reserved", epsilon=_epsilon(epsilon), delta=f"{delta:g}")


def _details(run: RunFiles, claim: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the passport says beside the value, as stated last: `claims.json` leaves it out."""
    same = [past for _, past in run.history if identity(past) == identity(claim)]
    return as_map((same[-1] if same else claim).get("details"))


def _promise(claim: Mapping[str, Any], details: Mapping[str, Any]) -> Promise:
    conditions = as_map(claim.get("conditions"))
    status = str(claim.get("status") or "")
    epsilon, delta = number(claim.get("value")), number(conditions.get("delta"))
    n, unit = as_index(claim.get("n")), str(conditions.get("unit") or "row")
    who = say("charged.row") if unit == "row" else literal(unit)
    among = {"unit": who, "n": f"{n:,}" if n is not None else say("charged.many")}
    tiles = [("epsilon", literal(_epsilon(epsilon)), exact(claim.get("value")))]
    if delta is not None:
        tiles.append(("delta", literal(f"{delta:g}"), exact(delta)))
    tiles.append(("unit", who, ""))
    if n is not None:
        tiles.append(("n", literal(f"{n:,}"), str(n)))
    spent = [part for part in map(as_map, as_list(details.get("parts"))) if part]
    return Promise(
        name=str(claim.get("dataset") or ""),
        status=status,
        promised=epsilon is not None and status not in ("void", "fails"),
        lead=_lead(epsilon, status, among),
        formal=tuple(_formal(epsilon, delta, status, among, str(claim.get("method") or ""))),
        tiles=tuple((say(f"charged.{name}"), text, raw) for name, text, raw in tiles),
        spent=_spent(spent),
        together=_together(epsilon, spent),
        left_out=tuple(recorded(str(item)) for item in as_list(details.get("not_covered"))),
    )


def _lead(epsilon: float | None, status: str, among: Mapping[str, object]) -> Phrase:
    if epsilon is None:
        return say("charged.none", **among)
    if status == "void":
        return say("charged.void", **among)
    if status == "fails":
        return say("charged.fails", **among)
    size = "tight" if epsilon <= _TIGHT else "some" if epsilon <= _LOOSE else "loose"
    return say(f"charged.{size}", **among)


def _formal(
    epsilon: float | None,
    delta: float | None,
    status: str,
    among: Mapping[str, object],
    method: str,
) -> Iterator[Phrase]:
    """What epsilon bounds, and what it means for somebody; or why there is none."""
    if epsilon is None:
        if method:
            yield say("charged.says", why=recorded(method))
        yield say("charged.would")
        return
    if status in ("void", "fails"):
        return
    shown = {"epsilon": _epsilon(epsilon), "delta": f"{delta or 0:g}"}
    if epsilon > _TELLING:
        yield say("charged.boundless", **shown)
        return
    factor = math.exp(epsilon)
    yield say("charged.formal", factor=_upwards(factor), **shown, **among)
    yield say("charged.example", sure=_sure(factor), delta=shown["delta"])


def _upwards(value: float) -> str:
    """Three digits, never less than the value.

    >>> _upwards(8.4085), _upwards(1234.5)
    ('8.41', '1,240')
    """
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    up = math.ceil(value / step - 1e-9) * step
    return f"{up:,.0f}" if step >= 1 else f"{up:.{round(-math.log10(step))}f}"


def _sure(factor: float) -> str:
    """How sure even odds become, never less than they do, and never all.

    >>> _sure(1.0), _sure(8.41), _sure(22026.5)
    ('50.0%', '89.4%', '99.996%')
    """
    digits = 1
    while True:
        scale = 10.0**digits
        up = math.ceil(100 * factor / (1 + factor) * scale - 1e-6) / scale
        if up < 100 or digits >= 12:
            return f"{up:.{digits}f}%"
        digits += 1


def _epsilon(value: float | None) -> str:
    """Never less than it is.

    >>> _epsilon(2.1292), _epsilon(0.00123), _epsilon(None)
    ('2.13', '0.00123', '∞')
    """
    if value is None:
        return "∞"
    return f"{math.ceil(value * 100 - 1e-9) / 100:.2f}" if value >= 0.1 else f"{value:.3g}"


def _spent(parts: list[Mapping[str, Any]]) -> tuple[Spent, ...]:
    """The parts in order; equal ones stand together."""
    known = [tuple(_cells(part)) for part in parts]
    times = Counter(known)
    found = dict(zip(known, parts, strict=True))
    return tuple(
        Spent(
            by=_by(str(part.get("by") or "")),
            what=part_name("released", str(part.get("what") or "")),
            epsilon=cells[2],
            exact=exact(part.get("epsilon")),
            times=say("charged.times", n=times[cells]) if times[cells] > 1 else None,
            noise=cells[3],
            sampling=cells[4],
            steps=cells[5],
        )
        for cells, part in found.items()
    )


def _cells(part: Mapping[str, Any]) -> Iterator[str]:
    """What a row of the table shows."""
    yield str(part.get("by") or "")
    yield str(part.get("what") or "")
    yield _epsilon(number(part.get("epsilon")))
    for key in ("noise_multiplier", "sampling"):
        value = number(part.get(key))
        yield f"{value:.4g}" if value is not None else ""
    steps = as_index(part.get("steps"))
    yield f"{steps:,}" if steps is not None else ""


def _by(who: str) -> Phrase:
    recipe, mark, _ = who.rpartition(_PREPROCESSING)
    return say("charged.preprocessing_of", recipe=recipe) if mark else literal(who)


def _together(epsilon: float | None, parts: list[Mapping[str, Any]]) -> Phrase | None:
    alone = [number(part.get("epsilon")) for part in parts]
    if epsilon is None or len(alone) < 2 or any(value is None for value in alone):
        return None
    total = math.fsum(value for value in alone if value is not None)
    if _epsilon(total) == _epsilon(epsilon) or total < epsilon:
        return None
    return say("charged.together", epsilon=_epsilon(epsilon), sum=_epsilon(total))
