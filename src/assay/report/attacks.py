"""What attacks on privacy found out: their ROC curves, and epsilon's lower bound beside its claim.

Read from the evidence that the audit `privacy` kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay.report.figures import Chart, twice
from assay.report.numbers import exact, number, pair, shown, shown_interval
from assay.report.reading import RunFiles, StageEntry, as_index, as_list, as_map
from assay.report.strings import Phrase, part_name, say
from assay.report.svg import COLOURS, axes, drawing, finish, plain
from assay.report.trust import kept

_AREA = "privacy.membership_auc"
#: roles of the curves, in turn
_ROLES = ("second", "model")


@dataclass(frozen=True)
class Curve:
    """The ROC curve of one attack.

    Attributes:
        label: what the attack is called.
        points: (false-positive rate, true-positive rate), from (0, 0) to (1, 1).
        area: its area as shown, not rounded, and its interval.
        n: units that were trained on, and that were not.
    """

    label: Phrase
    points: tuple[tuple[float, float], ...]
    area: str
    exact: str
    interval: Phrase | None
    n: tuple[int, int]


@dataclass(frozen=True)
class Attacks:
    """One audit of privacy.

    Attributes:
        stage: where it was.
        chart: the curves, None without any.
        curves: one an attack.
        about: how many units were attacked.
        bound: what the canaries show, in words.
        claimed: the epsilon that the passport claims, in words.
        contradicts: whether the two contradict each other.
    """

    stage: StageEntry
    chart: Chart | None
    curves: tuple[Curve, ...]
    about: Phrase | None
    bound: Phrase | None
    claimed: Phrase | None
    contradicts: bool


def attacks(run: RunFiles) -> list[Attacks]:
    """The audits of privacy of a run."""
    found = (_attacks(place, *one) for place, one in enumerate(kept(run, "privacy")))
    return [one for one in found if one is not None]


def _attacks(place: int, stage: StageEntry, evidence: Mapping[str, Any]) -> Attacks | None:
    made = (_curve(as_map(item)) for item in as_list(evidence.get("curves")))
    curves = tuple(curve for curve in made if curve is not None)
    canaries = as_map(evidence.get("canaries"))
    bound = _bound(canaries)
    if not curves and bound is None:
        return None
    about, chart = None, None
    if curves:
        members, others = (max(curve.n[side] for curve in curves) for side in (0, 1))
        about = say(
            "attacks.about", members=f"{members:,}", others=f"{others:,}",
            split=evidence.get("split"),
        )  # fmt: skip
        words = say("errors.fpr"), say("errors.tpr"), say("errors.chance")
        chart = twice(f"attacks{place}", say("attacks.roc"), about, partial(rare, curves, words))
    contradicts = bool(canaries.get("contradicts")) and bound is not None
    said = _beside(canaries, contradicts) if bound is not None else None
    return Attacks(stage, chart, curves, about, bound, said, contradicts)


def _curve(item: Mapping[str, Any]) -> Curve | None:
    sides = [[number(v) for v in as_list(item.get(side))] for side in ("fpr", "tpr")]
    points = tuple(
        (x, y)
        for x, y in zip(*sides, strict=False)
        if x is not None and y is not None and 0 <= x <= 1 and 0 <= y <= 1
    )
    if len(points) < 2 or number(item.get("auc")) is None:
        return None
    ends = pair([item.get("low"), item.get("high")])
    return Curve(
        label=part_name("attack", str(item.get("attack") or "")),
        points=points,
        area=shown(item["auc"], "fraction", _AREA),
        exact=exact(item["auc"]),
        interval=shown_interval(list(ends), "fraction", _AREA) if ends else None,
        n=(as_index(item.get("members")) or 0, as_index(item.get("others")) or 0),
    )


def _bound(canaries: Mapping[str, Any]) -> Phrase | None:
    """What the canaries show."""
    epsilon, delta, level = (number(canaries.get(k)) for k in ("epsilon", "delta", "level"))
    counts = [as_index(canaries.get(k)) for k in ("canaries", "guesses", "right")]
    if epsilon is None or delta is None or None in counts:
        return None
    names = ("canaries", "guesses", "right")
    values = {name: f"{count:,}" for name, count in zip(names, counts, strict=True)}
    if epsilon <= 0:
        return say("attacks.no_bound", **values)
    sure = f"{100 * (level or 0.95):g}%"
    return say("attacks.bound", epsilon=f"{epsilon:.2f}", delta=f"{delta:g}", level=sure, **values)


def _beside(canaries: Mapping[str, Any], contradicts: bool) -> Phrase | None:
    """The epsilon that is claimed, or that was accounted for where none is claimed."""
    claimed, accounted = number(canaries.get("claimed")), number(canaries.get("accounted"))
    if claimed is not None:
        key = "attacks.contradicts" if contradicts else "attacks.claimed"
        return say(key, epsilon=f"{claimed:.2f}")
    if accounted is not None:
        key = "attacks.accounted_not" if contradicts else "attacks.accounted"
        return say(key, epsilon=f"{accounted:.2f}")
    return None


def rare(
    curves: Sequence[Curve],
    words: tuple[Phrase, Phrase, Phrase],
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """ROC curves on logarithmic axes, where few false alarms have room; `words` name the axes.

    What is below the lowest rate that the units can show stands on the edge.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    fewest = max(max(curve.n) for curve in curves) or 1000
    decades = min(6, max(1, round(math.log10(fewest))))
    floor = 10.0**-decades
    side = min(width - 76, 330.0)
    with drawing(width, side + 52) as figure:
        one = axes(figure, 66, 44, width - 66 - side, 8)
        one.plot(
            [floor, 1], [floor, 1], color=COLOURS["other"], linewidth=1.2, dashes=(3, 3)
        )  # fmt: skip
        for place, curve in enumerate(curves):
            colour = COLOURS[_ROLES[(len(_ROLES) - len(curves) + place) % len(_ROLES)]]
            x, y = zip(*((max(a, floor), max(b, floor)) for a, b in curve.points), strict=True)
            one.step(x, y, where="post", color=colour, linewidth=2.0, clip_on=False)
            one.annotate(
                plain(curve.label, 24), (1, 0), (-6, 12 + 18 * (len(curves) - 1 - place)),
                xycoords="axes fraction", textcoords="offset points", ha="right", color=colour,
                weight="bold",
            )  # fmt: skip
        ends = [10.0**-place for place in range(decades, -1, -1)]
        for axis in (one.xaxis, one.yaxis):
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
        one.set_xscale("log")
        one.set_yscale("log")
        one.minorticks_off()
        one.set_xlim(floor, 1)
        one.set_ylim(floor, 1)
        one.set_xticks(ends, [f"{end:g}" for end in ends])
        one.set_yticks(ends, [f"{end:g}" for end in ends])
        one.grid()
        one.set_xlabel(plain(words[0]), labelpad=5)
        one.set_ylabel(plain(words[1]), labelpad=5)
        return finish(figure, name, title, about)
