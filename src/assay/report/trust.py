"""What the probabilities are worth, what pretraining brought, and where the model is surely wrong.

Read from the evidence that audits kept: `calibration`, `transfer`, `mistakes`, `quality`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay.report.figures import HALF, Chart, in_languages, strip, twice
from assay.report.numbers import exact, number, pair, percentage, shown, shown_interval
from assay.report.reading import RunFiles, StageEntry, as_index, as_list, as_map
from assay.report.squares import Bin, Pace, paces, reliability, sizes
from assay.report.strings import Phrase, kind_name, say
from assay.report.timeline import kind_of

#: most calibrations, mistakes and sizes of prediction sets that the page shows
CALIBRATIONS, MISTAKES, SIZES = 4, 12, 8
#: of a text that the model was wrong about, so many letters are shown
TEXT = 600
#: pictures that may stand in the page: no more than a small PNG
_IMAGE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]{4,60000}={0,2}")


def kept(run: RunFiles, name: str) -> Iterator[tuple[StageEntry, Mapping[str, Any]]]:
    """Evidence of an audit, by stage: `calibration`, `calibration-2`, ..."""
    for (index, found), evidence in run.evidence.items():
        if re.fullmatch(rf"{name}(-\d+)?", found):
            yield run.stage(index) or StageEntry(index, str(index)), evidence


@dataclass(frozen=True)
class Coverage:
    """Conformal prediction sets: what they promised, what they kept.

    Attributes:
        told: coverage, its interval, the promise and the mean size, in words.
        value: coverage, not rounded.
        strip: coverage beside the promise.
        sizes: how large the sets are; None where that was not recorded.
    """

    told: Phrase
    value: str
    strip: str
    sizes: Chart | None


@dataclass(frozen=True)
class Calibration:
    """One audit of the probabilities."""

    stage: StageEntry
    chart: Chart
    coverage: Coverage | None


def calibrations(run: RunFiles) -> list[Calibration]:
    """The audits of the probabilities by stage: before and after, beside each other."""
    made = []
    for place, (stage, evidence) in enumerate(kept(run, "calibration")):
        chart = reliability_chart(
            f"calibration{place}",
            bins_of(evidence.get("bins")),
            HALF,
            say("errors.after", index=stage.index, name=stage.name),
            _ece(run, stage, evidence),
        )
        if chart is not None:
            made.append(Calibration(stage, chart, _coverage(evidence.get("conformal"), place)))
    return made if len(made) <= CALIBRATIONS else [made[0], *made[1 - CALIBRATIONS :]]


def bins_of(value: Any, intervals: bool = False) -> list[Bin]:
    """Bins of a reliability diagram as an audit kept them; empty and odd ones are left out.

    Args:
        value: the list.
        intervals: whether rows are independent, so that bins without one get Wilson's interval.
    """
    found = []
    for item in map(as_map, as_list(value)):
        ends = pair([item.get("low", item.get("from")), item.get("high", item.get("to"))])
        point = pair([item.get("confidence"), item.get("accuracy", item.get("frequency"))])
        n = as_index(item.get("n", item.get("count")))
        if ends is None or point is None or not n:
            continue
        if not all(-1e-9 <= end <= 1 + 1e-9 for end in (*ends, *point)):
            continue
        interval = pair(item.get("ci"))
        if interval is None and intervals:
            from assay.audit.measures.intervals import wilson

            interval = wilson(point[1] * n, n)
        found.append(Bin(*ends, *point, n, interval))
    return found


def reliability_chart(
    name: str, bins: list[Bin], width: float, title: Phrase, caption: tuple[Phrase, ...] = ()
) -> Chart | None:
    """A reliability diagram; None where no bin holds rows."""
    if not bins:
        return None
    words = say("errors.predicted_p"), say("errors.observed"), say("errors.perfect")
    total = f"{sum(one.n for one in bins):,}"
    about = say("errors.reliability_about", bins=len(bins), n=total)
    return twice(name, title, about, partial(reliability, bins, words), width, caption)


def _ece(run: RunFiles, stage: StageEntry, evidence: Mapping[str, Any]) -> tuple[Phrase, ...]:
    ece, kind = number(evidence.get("ece")), "calibration.ece"
    if ece is None:
        return ()
    ends = next(
        (
            claim.get("interval")
            for index, claim in run.history
            if index == stage.index
            and kind_of(claim) == kind
            and claim.get("value") == evidence.get("ece")
        ),
        None,
    )
    interval = shown_interval(ends, "fraction", kind)
    n = as_index(evidence.get("n")) or sum(one.n for one in bins_of(evidence.get("bins")))
    values = {"ece": shown(ece, "fraction", kind), "n": f"{n:,}"}
    if interval is None:
        return (say("errors.ece_point", **values),)
    return (say("errors.ece", **values, interval=interval),)


def _coverage(value: Any, place: int) -> Coverage | None:
    found = as_map(value)
    coverage, alpha = number(found.get("coverage")), number(found.get("alpha"))
    if coverage is None or alpha is None:
        return None
    ends, target, kind = pair([found.get("low"), found.get("high")]), 1 - alpha, "calibration.cover"
    size = number(found.get("mean_size"))
    interval = shown_interval(ends, "fraction", kind)
    told = say(
        "errors.coverage",
        value=shown(coverage, "fraction", kind),
        interval=interval or say("none"),
        target=f"{100 * target:.6g}%",
        size=say("none") if size is None else f"{size:.2f}",
    )
    drawn = in_languages(
        f"coverage{place}",
        lambda name: strip(
            coverage, ends, target, True, (ends[1] if ends else coverage) >= target, False, name,
            str(say("errors.conformal")), str(told),
        ),
    )  # fmt: skip
    return Coverage(told, exact(found["coverage"]), drawn, _sizes(found.get("sizes"), place))


def _sizes(value: Any, place: int) -> Chart | None:
    counts = {
        int(size): n
        for size, given in as_map(value).items()
        if str(size).isdigit() and (n := as_index(given)) is not None and n >= 0
    }
    counts = dict(sorted(counts.items())[:SIZES])
    if not any(counts.values()):
        return None
    return twice(
        f"sizes{place}", say("errors.sizes"), say("errors.sizes_about", n=f"{max(counts)}"),
        partial(sizes, counts, say("errors.size")), HALF,
    )  # fmt: skip


@dataclass(frozen=True)
class Gain:
    """One k of a transfer curve: both means, the gain, its interval, as shown."""

    k: str
    pretrained: str
    scratch: str
    gain: str
    exact: str
    interval: Phrase | None


@dataclass(frozen=True)
class Transfer:
    """What starting from the pretrained weights brought, by labels a class."""

    chart: Chart
    gains: tuple[Gain, ...]
    about: Phrase


def transfers(run: RunFiles) -> list[Transfer]:
    """The transfer curves of a run."""
    made = (_transfer(place, e) for place, (_, e) in enumerate(kept(run, "transfer")))
    return [one for one in made if one is not None]


def _transfer(place: int, evidence: Mapping[str, Any]) -> Transfer | None:
    metric = str(evidence.get("metric") or "accuracy")
    kind = f"quality.{metric}"
    ks = [number(k) for k in as_list(evidence.get("k"))]
    sides = []
    for side in ("pretrained", "scratch"):
        each = [
            tuple(v for v in map(number, as_list(row)) if v is not None)
            for row in as_list(evidence.get(side))
        ]
        points = [(k, row) for k, row in zip(ks, each, strict=False) if k and k > 0 and row]
        sides.append(tuple(points))
    if not all(sides):
        return None
    percent = percentage("fraction", kind)
    gains = _gains(evidence, dict(sides[0]), dict(sides[1]), kind)
    curves = (
        Pace(say("transfer.pretrained"), sides[0], True),
        Pace(say("transfer.scratch"), sides[1]),
    )
    name, n = kind_name(kind), as_index(evidence.get("n")) or 0
    words = say("transfer.k"), name
    seeds = max(len(row) for side in sides for _, row in side)
    about = say("transfer.about", metric=name, n=f"{n:,}", split=evidence.get("split"), seeds=seeds)
    chart = twice(
        f"transfer{place}", name, about,
        partial(paces, curves, [(float(g.k), g.gain) for g in gains], words, percent),
    )  # fmt: skip
    return Transfer(chart, gains, about)


def _gains(
    evidence: Mapping[str, Any],
    pretrained: Mapping[float, tuple[float, ...]],
    scratch: Mapping[float, tuple[float, ...]],
    kind: str,
) -> tuple[Gain, ...]:
    found = []
    for item in map(as_map, as_list(evidence.get("gain"))):
        k, value = number(item.get("k")), number(item.get("value"))
        if k is None or value is None or k not in pretrained or k not in scratch:
            continue
        means = [shown(sum(v) / len(v), "fraction", kind) for v in (pretrained[k], scratch[k])]
        scale = 100.0 if percentage("fraction", kind) else 1.0
        ends = pair([item.get("low"), item.get("high")])
        digits = 1 if scale > 1 else 3
        low, high = (f"{scale * end:+.{digits}f}" for end in ends) if ends else ("", "")
        found.append(
            Gain(
                k=f"{k:g}", pretrained=means[0], scratch=means[1],
                gain=f"{scale * value:+.{digits}f}", exact=exact(item["value"]),
                interval=say("interval", low=low, high=high) if ends else None,
            )
        )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction that the model was sure of, with its picture or text where it has one."""

    id: str
    label: str
    prediction: str
    probability: str
    exact: str
    text: str = ""
    image: str = ""


def mistakes(run: RunFiles) -> list[Mistake]:
    """The most confident mistakes of the newest audit; none of private data."""
    if run.private:
        return []
    own = [evidence.get("rows") for _, evidence in kept(run, "mistakes") if evidence.get("rows")]
    said = [e["mistakes"] for e in run.evidence.values() if e.get("mistakes")]
    rows = next(reversed(own or said), None)
    return [_mistake(row) for row in map(as_map, as_list(rows)[:MISTAKES])]


def _mistake(row: Mapping[str, Any]) -> Mistake:
    sure = row.get("confidence", row.get("probability"))
    text, image = row.get("text"), row.get("image")
    words = " ".join(str(text).split()) if isinstance(text, str) else ""
    return Mistake(
        id=str(row.get("id", "")),
        label=str(row.get("label", "")),
        prediction=str(row.get("predicted", row.get("prediction", ""))),
        probability=shown(sure, "fraction"),
        exact=exact(sure),
        text=words if len(words) <= TEXT else words[: TEXT - 1].rstrip() + "…",
        image=image if isinstance(image, str) and _IMAGE.fullmatch(image) else "",
    )
