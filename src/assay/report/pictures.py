"""Which charts a run gives: baselines, learning curves, confusion, ROC, reliability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from assay.report.answer import (
    PREFERRED,
    Baseline,
    baselines,
    main_claim,
)
from assay.report.figures import (
    FULL,
    HALF,
    THIRD,
    Chart,
    Dot,
    Line,
    Panel,
    confusion,
    curves,
    dots,
    twice,
)
from assay.report.numbers import less_is_better, metric_of, number, pair, parse_bound, shown
from assay.report.reading import RunFiles, StageEntry, as_index, as_list, as_map
from assay.report.squares import scatter, unit_square
from assay.report.strings import Phrase, chain, kind_name, say
from assay.report.timeline import kind_of, unit_of, value_of
from assay.report.trust import bins_of, kept, reliability_chart

#: metrics of a curve that are shares of rows
PERCENTAGES = {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv"}
#: most panels of the baseline chart, classes of a picture, points of a curve, stages with curves
PANELS, CLASSES, POINTS, STAGES = 3, 12, 60, 6


def headline_claims(run: RunFiles) -> list[Mapping[str, Any]]:
    """The qualities measured together with the main one, that one first."""
    main = main_claim(run)
    if not main:
        return []
    together = [
        claim
        for claim in run.claims
        if kind_of(claim).startswith("quality.")
        and all(claim.get(key) == main.get(key) for key in ("dataset", "split", "stage"))
        and number(claim.get("value")) is not None
    ]

    def rank(claim: Mapping[str, Any]) -> tuple[bool, int]:
        metric = metric_of(kind_of(claim))
        return claim is not main, PREFERRED.index(metric) if metric in PREFERRED else len(PREFERRED)

    return sorted(together, key=rank)


def baseline_chart(run: RunFiles) -> Chart | None:
    """The model beside its automatic baselines; None when nothing was measured beside it."""
    claims = headline_claims(run)
    rows = baselines(run, claims[0])[:8] if claims else []
    # rows line up over the panels, so a panel needs a value in every row
    claims = [
        claim for claim in claims if all(row.value(kind_of(claim)) is not None for row in rows)
    ]
    claims = claims[:PANELS]
    if not claims or not rows:
        return None
    panels = [_panel(run, claim, rows) for claim in claims]
    title = say("numbers.figure")
    metrics = chain(kind_name(kind_of(claim)) for claim in claims)
    about = say("numbers.figure_about", metrics=metrics, n=len(rows))
    return twice("baselines", title, about, partial(_draw_dots, panels), FULL)


def _draw_dots(panels: Sequence[Panel], name: str, width: float, title: str, about: str) -> str:
    return dots(panels, name, width, title, about)


def _panel(
    run: RunFiles,
    claim: Mapping[str, Any],
    rows: Iterable[Baseline],
) -> Panel:
    kind, unit = kind_of(claim), unit_of(claim)
    value = number(claim.get("value")) or 0.0
    found = [
        Dot(
            say("numbers.model"),
            value,
            value_of(run, claim),
            pair(claim.get("interval")),
            True,
        )
    ]
    for row in rows:
        amount = row.value(kind)
        if amount is not None:
            interval = pair(row.intervals.get(metric_of(kind)))
            found.append(Dot(row.name, amount, shown(amount, unit, kind), interval))
    bound = next((parse_bound(i.get("bound")) for i in run.require if i.get("kind") == kind), None)
    name_of = kind_name(kind)
    title = say("numbers.lower", metric=name_of) if less_is_better(kind) else name_of
    return Panel(
        title,
        tuple(found),
        bound.limit if bound else None,
        say("numbers.required") if bound else "",
    )


def learning_charts(run: RunFiles) -> tuple[list[Chart], int]:
    """Curves of each training stage, and how many more stages have some."""
    indices = sorted(
        {index for line in run.metrics if (index := as_index(line.get("stage"))) is not None}
    )
    charts: list[list[Chart]] = []
    for index in indices:
        lines = [line for line in run.metrics if line.get("stage") == index]
        stage = run.stage(index) or StageEntry(index, str(index))
        other = next(
            (m for m in PREFERRED if any(number(x.get(m)) is not None for x in lines)), None
        )
        found = [_curve(lines, metric, stage) for metric in ("loss", other) if metric]
        if any(found):
            charts.append([chart for chart in found if chart])
    return [chart for group in charts[:STAGES] for chart in group], max(0, len(charts) - STAGES)


def _curve(lines: Sequence[Mapping[str, Any]], metric: str, stage: StageEntry) -> Chart | None:
    axis = "step" if any(as_index(line.get("step")) is not None for line in lines) else "epoch"
    found: list[Line] = []
    for split in sorted({str(line.get("split") or "train") for line in lines}):
        mine = [line for line in lines if str(line.get("split") or "train") == split]
        points = _points(mine, axis, metric)
        if points:
            known = split if split not in ("train", "valid") else say(f"learning.{split}")
            found.append(Line(known, thinned(sorted(points)), split != "train"))
    if not any(len(line.points) > 1 for line in found):
        return None
    kind = f"quality.{metric}"
    unit = "fraction" if metric in PERCENTAGES else ""
    percent = metric in PERCENTAGES
    name = say("learning.loss") if metric == "loss" else kind_name(kind)
    ends = chain(
        (
            say(
                "learning.end",
                split=line.label,
                first=shown(line.points[0][1], unit, kind),
                last=shown(line.points[-1][1], unit, kind),
            )
            for line in found
        ),
        "sentence",
    )
    words = say(f"learning.{axis}")
    return twice(
        f"curve{stage.index}-{metric.replace('_', '-')}",
        say("learning.of", metric=name, index=stage.index, name=stage.name),
        say(
            "learning.about", metric=name, axis=words, index=stage.index, name=stage.name, ends=ends
        ),
        partial(curves, tuple(found), words, percent),
    )


def _points(
    lines: Sequence[Mapping[str, Any]], axis: str, metric: str
) -> list[tuple[float, float]]:
    """Points of one split: those of single steps, where there are, else the means of epochs."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for line in lines:
        x, y = number(line.get(axis)), number(line.get(metric))
        if x is not None and y is not None:
            found[line.get("kind") == "step"].append((x, y))
    return found[True] if len(found[True]) > 1 else found[False]


def thinned(
    points: Sequence[tuple[float, float]], most: int = POINTS
) -> tuple[tuple[float, float], ...]:
    """At most `most` points: the means of runs of equal length, the last at the last x.

    >>> thinned([(i, i) for i in range(6)], 3)
    ((0.5, 0.5), (2.5, 2.5), (5, 4.5))
    """
    if len(points) <= most:
        return tuple(points)
    size = -(-len(points) // most)
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    means = [(sum(x for x, _ in r) / len(r), sum(y for _, y in r) / len(r)) for r in runs]
    return (*means[:-1], (points[-1][0], means[-1][1]))


def error_charts(run: RunFiles) -> tuple[list[Chart], int]:
    """Confusion matrix, ROC and reliability of the newest audit that kept them; its stage."""
    calibrated = any(True for _ in kept(run, "calibration"))
    for (stage, _), evidence in reversed(list(run.evidence.items())):
        width = _room(evidence, calibrated)
        parts = [_confusion, _roc, _reliability, _scatter]
        if calibrated:
            # those pictures stand in a section of their own
            parts.remove(_reliability)
        made = (part(evidence, width) for part in parts)
        found = [chart for chart in made if chart]
        if found:
            return found, stage
    return [], 0


def _room(evidence: Mapping[str, Any], calibrated: bool) -> float:
    """How wide each chart of errors may be: three small ones stand side by side."""
    classes = len(as_list(as_map(evidence.get("confusion")).get("labels")))
    both = all(len(as_list(evidence.get(key))) > 1 for key in ("curve_roc", "reliability"))
    return THIRD if both and 0 < classes <= 4 and not calibrated else HALF


def folded(
    labels: Sequence[str], matrix: Sequence[Sequence[int]], most: int = CLASSES
) -> tuple[list[Phrase | str], list[list[int]]]:
    """A confusion matrix of the `most - 1` classes with most rows, the others summed into one."""
    if len(labels) <= most:
        return list(labels), [list(row) for row in matrix]
    order = sorted(range(len(labels)), key=lambda i: (-sum(matrix[i]), i))
    top = sorted(order[: most - 1])
    place = {index: at for at, index in enumerate(top)}
    small = [[0] * most for _ in range(most)]
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            small[place.get(i, most - 1)][place.get(j, most - 1)] += count
    other = say("errors.other", n=len(labels) - len(top))
    return [*(labels[i] for i in top), other], small


def _confusion(evidence: Mapping[str, Any], width: float) -> Chart | None:
    given = as_map(evidence.get("confusion"))
    labels = [str(label) for label in as_list(given.get("labels"))]
    matrix = [[as_index(n) or 0 for n in as_list(row)] for row in as_list(given.get("matrix"))]
    total = sum(map(sum, matrix))
    if not labels or not total or {len(matrix), *map(len, matrix)} != {len(labels)}:
        return None
    right = sum(matrix[i][i] for i in range(len(labels)))
    small_labels, small = folded(labels, matrix)
    caption: list[Phrase] = []
    worst = max(
        ((matrix[i][j], -i, -j) for i in range(len(labels)) for j in range(len(labels)) if i != j),
        default=(0, 0, 0),
    )
    if worst[0]:
        caption.append(
            say(
                "errors.worst",
                true=labels[-worst[1]],
                predicted=labels[-worst[2]],
                n=f"{worst[0]:,}",
            )
        )
    if len(small_labels) < len(labels):
        shown_classes = len(small_labels) - 1
        caption.append(
            say("errors.folded", shown=shown_classes, n=len(labels), other=small_labels[-1])
        )
    return twice(
        "confusion",
        say("errors.confusion"),
        say("errors.confusion_about", right=f"{right:,}", n=f"{total:,}"),
        partial(confusion, small_labels, small),
        width,
        caption,
    )


def _square_points(value: Any) -> list[tuple[float, float]]:
    found = []
    for item in as_list(value):
        if isinstance(item, Mapping):
            item = [item.get("confidence"), item.get("frequency")]
        point = pair(as_list(item)[:2])
        if point is not None and all(-1e-9 <= end <= 1 + 1e-9 for end in point):
            found.append(point)
    return found


def _roc(evidence: Mapping[str, Any], width: float) -> Chart | None:
    many = as_map(evidence.get("curves_roc"))
    curves = [_square_points(curve) for curve in [evidence.get("curve_roc"), *many.values()]]
    curves = [points for points in curves if len(points) > 1][:CLASSES]
    if not curves:
        return None
    area = number(as_map(evidence.get("metrics")).get("auroc"))
    caption = [say("errors.roc_area", auroc=shown(area, "", "quality.auroc"))] if area else []
    if len(curves) > 1:
        caption.append(say("errors.roc_classes"))
    words = say("errors.fpr"), say("errors.tpr"), say("errors.chance")
    return twice(
        "roc", say("errors.roc"), say("errors.roc_about"),
        partial(unit_square, curves, False, words), width, caption,
    )  # fmt: skip


def _reliability(evidence: Mapping[str, Any], width: float) -> Chart | None:
    n, units = evidence.get("n"), evidence.get("units")
    bins = bins_of(evidence.get("reliability"), intervals=n is not None and n == units)
    title = say("errors.reliability")
    return reliability_chart("reliability", bins, width, title) if len(bins) > 1 else None


def _scatter(evidence: Mapping[str, Any], width: float) -> Chart | None:
    points = [point for item in as_list(evidence.get("scatter")) if (point := pair(item))]
    if len(points) < 2:
        return None
    words = say("errors.true_value"), say("errors.predicted_value")
    return twice(
        "scatter", say("errors.scatter"), say("errors.scatter_about", n=f"{len(points):,}"),
        partial(scatter, points, words), width,
    )  # fmt: skip
