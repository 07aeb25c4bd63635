"""More charts of the report: ROC, reliability, predictions, prediction sets, transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.report.figures import label_ends, spread, ticks
from assay.report.strings import Phrase
from assay.report.svg import COLOURS, axes, breadth, drawing, finish, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def unit_square(
    lines: Sequence[Sequence[tuple[float, float]]],
    marked: bool,
    words: tuple[Phrase, Phrase, Phrase],
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """Curves in the unit square beside its diagonal: ROC, or reliability.

    `lines` holds the points (x, y) of each curve, all from 0 to 1; they are `marked` or not.
    `words` are those of the x axis, the y axis and the diagonal.
    """
    side = min(width - 60, 330.0)
    with drawing(width, side + 52) as figure:
        one = axes(figure, 50, 44, width - 50 - side, 8)
        one.plot([0, 1], [0, 1], color=COLOURS["other"], linewidth=1.2, dashes=(3, 3))
        alone = len(lines) == 1
        for points in lines:
            x, y = zip(*points, strict=True)
            if alone and not marked:
                one.fill_between(x, y, 0, color=COLOURS["model"], alpha=0.1, linewidth=0)
            one.plot(x, y, color=COLOURS["model"], linewidth=2.2 if alone else 1.4, clip_on=False,
                     alpha=1 if alone else 0.7, marker="o" if marked else None, markersize=7,
                     markeredgecolor=COLOURS["paper"], markeredgewidth=1.2)  # fmt: skip
        one.text(0.72, 0.68, plain(words[2], 20), color=COLOURS["muted"], va="top")
        one.set_xlim(0, 1)
        one.set_ylim(0, 1)
        one.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        one.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        one.grid()
        one.set_xlabel(plain(words[0]), labelpad=5)
        one.set_ylabel(plain(words[1]), labelpad=5)
        return finish(figure, name, title, about)


def scatter(
    points: Sequence[tuple[float, float]],
    words: tuple[Phrase, Phrase],
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """Points (true, predicted) beside the diagonal; `words` name the axes."""
    from matplotlib.ticker import MaxNLocator

    side = min(width - 76, 330.0)
    ends = spread([end for point in points for end in point], 0.04, 0.04)
    with drawing(width, side + 52) as figure:
        one = axes(figure, 66, 44, width - 66 - side, 8)
        one.plot(ends, ends, color=COLOURS["other"], linewidth=1.2, dashes=(3, 3))
        x, y = zip(*points, strict=True)
        one.plot(x, y, "o", color=COLOURS["model"], markersize=4, alpha=0.45, markeredgewidth=0)
        one.set_xlim(*ends)
        one.set_ylim(*ends)
        for axis in (one.xaxis, one.yaxis):
            axis.set_major_locator(MaxNLocator(4))
            axis.set_major_formatter(ticks(False))
        one.grid()
        one.set_xlabel(plain(words[0]), labelpad=5)
        one.set_ylabel(plain(words[1]), labelpad=5)
        return finish(figure, name, title, about)


@dataclass(frozen=True)
class Bin:
    """Predictions of like confidence.

    Attributes:
        low, high: ends of the bin.
        confidence: their mean confidence.
        accuracy: the share of them that came true.
        n: how many they are.
        interval: interval of `accuracy`, where one is known.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int
    interval: tuple[float, float] | None = None


def reliability(
    bins: Sequence[Bin],
    words: tuple[Phrase, Phrase, Phrase],
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """Reliability diagram: what came true against what was said, how many rows below it.

    `words` are those of the x axis, the y axis and the diagonal.
    """
    side = min(width - 60, 330.0)
    most = max((one.n for one in bins), default=1) or 1
    with drawing(width, side + 96) as figure:
        below = axes(figure, 50, 44, width - 50 - side, side + 14)
        below.set_xlim(0, 1)
        below.set_ylim(0, 1.1)
        below.set_yticks([])
        below.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        for one in bins:
            below.bar((one.low + one.high) / 2, one.n / most, 0.86 * (one.high - one.low),
                      color=COLOURS["other"], alpha=0.55, linewidth=0)  # fmt: skip
        below.set_xlabel(plain(words[0]), labelpad=5)
        square = axes(figure, 50, 88, width - 50 - side, 8)
        _square(square, words)
        square.set_xticks([0, 0.5, 1], ["", "", ""])
        for one in bins:
            if one.interval:
                square.plot([one.confidence] * 2, one.interval, color=COLOURS["model"], alpha=0.4,
                            linewidth=4, solid_capstyle="butt")  # fmt: skip
        square.plot(
            [one.confidence for one in bins], [one.accuracy for one in bins], "o-", markersize=7,
            color=COLOURS["model"], linewidth=1.6, clip_on=False,
            markeredgecolor=COLOURS["paper"], markeredgewidth=1.2,
        )  # fmt: skip
        return finish(figure, name, title, about)


def _square(one: Axes, words: tuple[Phrase, Phrase, Phrase]) -> None:
    """The unit square with its diagonal."""
    one.plot([0, 1], [0, 1], color=COLOURS["other"], linewidth=1.2, dashes=(3, 3))
    one.text(0.12, 0.09, plain(words[2], 20), color=COLOURS["muted"], va="center")
    one.set_xlim(0, 1)
    one.set_ylim(0, 1)
    one.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    one.grid()
    one.set_ylabel(plain(words[1]), labelpad=5)


def sizes(
    counts: Mapping[int, int], axis: Phrase, name: str, width: float, title: str, about: str
) -> str:
    """Bars of how many prediction sets hold how many classes; `axis` says so."""
    total = sum(counts.values()) or 1
    pitch = 26.0
    with drawing(width, 30 + pitch * len(counts)) as figure:
        one = axes(figure, 34, 4, 110, 26)
        one.set_xlim(0, max(counts.values()) / total)
        one.set_ylim(len(counts) - 0.5, -0.5)
        one.set_xticks([])
        one.set_yticks(range(len(counts)), [f"{size}" for size in counts])
        one.tick_params(labelcolor=COLOURS["ink"])
        for row, n in enumerate(counts.values()):
            share = n / total
            one.barh(row, share, 0.62, color=COLOURS["model"], alpha=0.75, linewidth=0)
            one.annotate(
                f"{n:,} ({100 * share:.1f}%)", (share, row), (7, 0), va="center",
                textcoords="offset points", color=COLOURS["ink"], annotation_clip=False,
            )  # fmt: skip
        one.annotate(
            plain(axis), (0, 1), (-34, 14), xycoords="axes fraction", va="center",
            textcoords="offset points", color=COLOURS["muted"], annotation_clip=False,
        )  # fmt: skip
        return finish(figure, name, title, about)


@dataclass(frozen=True)
class Pace:
    """One curve over k: its label, k and the value of each seed there."""

    label: Phrase
    points: tuple[tuple[float, tuple[float, ...]], ...]
    main: bool = False


def paces(
    curves: Sequence[Pace],
    gains: Sequence[tuple[float, str]],
    words: tuple[Phrase, Phrase],
    percent: bool,
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """Curves over k on a logarithmic axis: means, the seeds around them, the gain between them.

    `gains` holds (k, gain as shown); `words` name the axes.
    """
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

    ends = max(breadth(plain(curve.label, 16)) for curve in curves) * 7.0 + 18
    ks = sorted({k for curve in curves for k, _ in curve.points})
    values = [v for curve in curves for _, each in curve.points for v in each]
    means: dict[float, list[float]] = {k: [] for k in ks}
    places = []
    with drawing(width, 270) as figure:
        one = axes(figure, 58, 42, ends, 22)
        for curve in curves:
            colour = COLOURS["model" if curve.main else "second"]
            for k, each in curve.points:
                one.plot([k] * len(each), each, "o", color=colour, markersize=4, alpha=0.35,
                         markeredgewidth=0)  # fmt: skip
                means[k].append(sum(each) / len(each))
            line = [(k, sum(each) / len(each)) for k, each in curve.points]
            one.plot(
                *zip(*line, strict=True), "o-", color=colour, linewidth=2.2 if curve.main else 1.6,
                markersize=7, markeredgecolor=COLOURS["paper"], markeredgewidth=1.2, clip_on=False,
            )  # fmt: skip
            places.append((line[-1][1], curve.label, colour))
        one.set_xscale("log")
        if len(ks) == 1:
            one.set_xlim(ks[0] / 2, ks[0] * 2)
        one.xaxis.set_minor_locator(NullLocator())
        one.xaxis.set_minor_formatter(NullFormatter())
        one.set_xticks(ks, [f"{k:g}" for k in ks])
        one.set_ylim(*spread(values, 0.08, 0.14))
        one.yaxis.set_major_locator(MaxNLocator(4))
        one.yaxis.set_major_formatter(ticks(percent))
        one.grid(axis="y")
        one.set_xlabel(plain(words[0]), labelpad=6)
        label_ends(one, places)
        for k, text in gains:
            if len(means.get(k, [])) == 2:
                one.plot([k, k], means[k], color=COLOURS["muted"], linewidth=1, dashes=(2, 2))
                one.annotate(
                    text, (k, max(means[k])), (0, 13), textcoords="offset points", va="center",
                    ha="center", color=COLOURS["ink"], annotation_clip=False,
                )  # fmt: skip
        return finish(figure, name, title, about)
