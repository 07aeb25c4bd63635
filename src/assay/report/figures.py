"""The report's charts: from plain numbers to inline SVG, each drawn once wide and once narrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from assay.report.strings import LANGUAGES, Phrase, say, speaking
from assay.report.svg import COLOURS, axes, breadth, drawing, finish, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter

#: widths in pixels of a chart that fills the page, half or a third of it, and a phone
FULL, HALF, THIRD, NARROW = 960.0, 470.0, 306.0, 340.0


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        name: unique in the page.
        title: what it is.
        about: what it shows, in words.
        wide: its SVG for a desk, in every language.
        narrow: its SVG for a phone, likewise; empty where the wide one serves.
        caption: what a reader should see in it.
        across: how wide it is at a desk, in pixels.
    """

    name: str
    title: Phrase
    about: Phrase
    wide: str
    narrow: str = ""
    caption: tuple[Phrase, ...] = ()
    across: float = HALF


def twice(
    name: str,
    title: Phrase,
    about: Phrase,
    draw: Callable[[str, float, str, str], str],
    wide: float = HALF,
    caption: Sequence[Phrase] = (),
) -> Chart:
    """A chart from `draw(name, width, title, about) -> SVG`, drawn for a desk and for a phone.

    What `draw` writes are phrases, since it is called once for each language.
    """
    return Chart(
        name,
        title,
        about,
        in_languages(f"{name}-w", lambda one: draw(one, wide, str(title), str(about))),
        in_languages(f"{name}-n", lambda one: draw(one, NARROW, str(title), str(about))),
        tuple(caption),
        wide,
    )


def in_languages(name: str, draw: Callable[[str], str]) -> str:
    """What `draw(name)` makes in each language, of which the page shows one."""
    made = []
    for language, lang in LANGUAGES.items():
        with speaking(language):
            made.append(f'<div lang="{lang}">{draw(f"{name}-{language}")}</div>')
    return "".join(made)


@dataclass(frozen=True)
class Dot:
    """One row of a dot chart.

    Attributes:
        name: the row's label.
        value: where the dot stands.
        text: the value as shown.
        interval: ends of its interval.
        model: whether it is the model, which stands out.
    """

    name: Phrase
    value: float
    text: str
    interval: tuple[float, float] | None = None
    model: bool = False


@dataclass(frozen=True)
class Panel:
    """One metric of a dot chart: its name, its rows, the limit that was required of it."""

    title: Phrase
    dots: tuple[Dot, ...]
    limit: float | None = None
    limit_text: Phrase | str = ""


def spread(
    values: Sequence[float], before: float = 0.12, after: float = 0.12
) -> tuple[float, float]:
    """Ends of an axis: those of the values, and these shares of their span more on each side."""
    low, high = min(values), max(values)
    size = high - low or abs(high) or 1.0
    return low - before * size, high + after * size


def dots(panels: Sequence[Panel], name: str, width: float, title: str, about: str) -> str:
    """Dot chart: panels side by side where there is room, else below each other."""
    stacked = width < 600
    rows = [dot.name for dot in panels[0].dots]
    label = min(0.38 * width, 14 + 7.0 * max(breadth(plain(row, 30)) for row in rows))
    # letters of the page's font are about 6.2 px wide at 12 px
    longest = int(label / 6.2)
    room = 22 + 6.8 * max(len(dot.text) for panel in panels for dot in panel.dots)
    pitch, head = 28.0, 42.0
    block = head + pitch * len(rows) + 8
    height = block * (len(panels) if stacked else 1)
    share = (width - label) / (1 if stacked else len(panels))
    with drawing(width, height) as figure:
        last = len(panels) - 1
        for place, panel in enumerate(panels):
            left = label + (0 if stacked else place * share)
            top = place * block if stacked else 0.0
            right = width - left - share + room + (0 if stacked or place == last else 28)
            one = axes(figure, left + 8, height - top - block + 8, right, top + head)
            _dot_panel(one, panel, share, room)
            if stacked or place == 0:
                for row, dot in enumerate(panel.dots):
                    one.annotate(
                        plain(dot.name, longest), (0, row), (-label - 8, 0), ha="left", va="center",
                        xycoords=("axes fraction", "data"), textcoords="offset points",
                        weight="bold" if dot.model else "normal",
                        color=COLOURS["model" if dot.model else "ink"], annotation_clip=False,
                    )  # fmt: skip
        return finish(figure, name, title, about)


def _dot_panel(one: Axes, panel: Panel, width: float, room: float) -> None:
    ends = [dot.value for dot in panel.dots]
    ends += [end for dot in panel.dots if dot.interval for end in dot.interval]
    ends += [panel.limit] if panel.limit is not None else []
    one.set_xlim(*spread(ends, 0.08, 0.08))
    one.set_ylim(len(panel.dots) - 0.5, -0.5)
    one.set_xticks([])
    one.set_yticks([])
    one.annotate(
        plain(panel.title, int(width / 7)), (0, 1), (0, 21), xycoords="axes fraction",
        textcoords="offset points", color=COLOURS["muted"], va="center", annotation_clip=False,
    )  # fmt: skip
    for row, dot in enumerate(panel.dots):
        colour = COLOURS["model" if dot.model else "other"]
        one.axhline(row, color=COLOURS["line"], linewidth=1, zorder=0)
        if dot.interval:
            one.plot(
                dot.interval, [row, row], color=colour, linewidth=6 if dot.model else 3, alpha=0.35,
                solid_capstyle="butt", clip_on=False,
            )  # fmt: skip
        one.plot(
            [dot.value], [row], marker="o", markersize=10 if dot.model else 8, color=colour,
            markeredgecolor=COLOURS["paper"], markeredgewidth=1.5, clip_on=False,
        )  # fmt: skip
        one.annotate(
            dot.text, (1, row), (room, 0), xycoords=("axes fraction", "data"), ha="right",
            textcoords="offset points", va="center", annotation_clip=False,
            weight="bold" if dot.model else "normal",
            color=COLOURS["model" if dot.model else "ink"],
        )  # fmt: skip
    if panel.limit is not None:
        one.axvline(panel.limit, color=COLOURS["ink"], linewidth=1.2, dashes=(3, 3), zorder=1)
        one.annotate(
            str(panel.limit_text), (panel.limit, 1), (0, 0), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=COLOURS["ink"], va="bottom", fontsize=11, ha="center",
            annotation_clip=False,
        )  # fmt: skip


def strip(
    value: float,
    interval: tuple[float, float] | None,
    limit: float,
    passes_above: bool,
    good: bool,
    from_zero: bool,
    name: str,
    title: str,
    about: str,
) -> str:
    """One required claim as a strip: the side that passes shaded, the interval, the value.

    Amounts (`from_zero`) are shown whole, shares of a whole around the limit.
    """
    low, high = spread([value, limit, *(interval or ())], 0.35, 0.35)
    if from_zero and min(value, limit) >= 0:
        low, high = 0.0, 1.15 * max(value, limit, *(interval or ())) or 1.0
    colour = COLOURS["good" if good else "bad"]
    with drawing(220, 30) as figure:
        one = axes(figure, 2, 2, 2, 2)
        one.axis("off")
        one.set_xlim(low, high)
        one.set_ylim(0, 1)
        one.plot([low, high], [0.5, 0.5], color=COLOURS["line"], linewidth=2)
        one.axvspan(limit if passes_above else low, high if passes_above else limit, 0.15, 0.85,
                    color=COLOURS["good"], alpha=0.13, linewidth=0)  # fmt: skip
        one.plot([limit, limit], [0.08, 0.92], color=COLOURS["ink"], linewidth=1.6)
        if interval:
            one.plot(interval, [0.5, 0.5], color=colour, linewidth=5, alpha=0.45,
                     solid_capstyle="butt")  # fmt: skip
        one.plot([value], [0.5], marker="o", markersize=10, color=colour,
                 markeredgecolor=COLOURS["paper"], markeredgewidth=1.5)  # fmt: skip
        return finish(figure, name, title, about)


def balance(
    value: float,
    interval: tuple[float, float],
    up: bool,
    better: str,
    name: str,
    title: str,
    about: str,
) -> str:
    """One paired difference: zero in the middle, what is better to the right.

    Args:
        value: b - a.
        interval: of the difference.
        up: whether more is better.
        better: `a`, `b` or `neither` is shown to be better.
        name: as for `finish`.
        title: likewise.
        about: likewise.
    """
    sign = 1.0 if up else -1.0
    reach = 1.15 * max(abs(value), *map(abs, interval)) or 1.0
    colour = COLOURS[{"a": "second", "b": "model"}.get(better, "other")]
    with drawing(220, 26) as figure:
        one = axes(figure, 2, 2, 2, 2)
        one.axis("off")
        one.set_xlim(-reach, reach)
        one.set_ylim(0, 1)
        one.plot([-reach, reach], [0.5, 0.5], color=COLOURS["line"], linewidth=2)
        one.plot([0, 0], [0.02, 0.98], color=COLOURS["ink"], linewidth=1.4)
        one.plot([sign * end for end in interval], [0.5, 0.5], color=colour, linewidth=5,
                 alpha=0.45, solid_capstyle="butt")  # fmt: skip
        one.plot([sign * value], [0.5], marker="o", markersize=10, color=colour,
                 markeredgecolor=COLOURS["paper"], markeredgewidth=1.5)  # fmt: skip
        return finish(figure, name, title, about)


@dataclass(frozen=True)
class Line:
    """One line of a curve: label, points `[(x, y)]`, and whether it is the one to look at."""

    label: Phrase | str
    points: tuple[tuple[float, float], ...]
    main: bool = False


def curves(
    lines: Sequence[Line],
    axis: Phrase,
    percent: bool,
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """Lines labelled at their ends."""
    from matplotlib.ticker import MaxNLocator

    ends = max(breadth(plain(line.label, 14)) for line in lines) * 7.0 + 14
    with drawing(width, 230) as figure:
        one = axes(figure, 50, 40, ends, 12)
        places = []
        for line in lines:
            colour = COLOURS["model" if line.main else "second"]
            x, y = zip(*line.points, strict=True)
            few = len(x) <= 16
            one.plot(
                x, y, color=colour, linewidth=2.2 if line.main else 1.4, clip_on=False,
                marker="o" if few else None, markersize=6 if line.main else 4.5,
                markeredgecolor=COLOURS["paper"], markeredgewidth=1.2,
            )  # fmt: skip
            places.append((y[-1], line.label, colour))
        values = [y for line in lines for _, y in line.points]
        one.set_ylim(*spread(values, 0.06, 0.06))
        one.yaxis.set_major_locator(MaxNLocator(4))
        one.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        one.yaxis.set_major_formatter(ticks(percent))
        one.grid(axis="y")
        one.margins(x=0.02)
        one.set_xlabel(plain(axis), labelpad=6)
        label_ends(one, places)
        return finish(figure, name, title, about)


def label_ends(one: Axes, places: Sequence[tuple[float, Phrase | str, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would cover each other."""
    low, high = one.get_ylim()
    gap = 15 / 178 * (high - low)
    at = -math.inf
    for y, label, colour in sorted(places, key=lambda place: (place[0], str(place[1]))):
        at = max(y, at + gap)
        one.annotate(
            plain(label, 14), (1, at), (8, 0), xycoords=("axes fraction", "data"), va="center",
            textcoords="offset points", color=colour, weight="bold", annotation_clip=False,
        )  # fmt: skip


def confusion(
    labels: Sequence[Phrase | str],
    matrix: Sequence[Sequence[int]],
    name: str,
    width: float,
    title: str,
    about: str,
) -> str:
    """Confusion matrix: cells shaded by the share of their row, counts written in."""
    k = len(labels)
    names = [plain(label, 14 if k > 2 else 18, 5) for label in labels]
    longest = max(map(breadth, names))
    left = min(0.3 * width, 26 + 6.8 * longest)
    slanted = k > 4 or longest * 6.8 > (width - left) / k
    top = 34 + (min(90.0, 6.0 * longest) if slanted else 12)
    side = width - left - 12
    height = top + min(side, max(60.0 * k, 200.0)) + 8
    with drawing(width, height) as figure:
        one = axes(figure, left, 8, 12, top)
        one.set_xlim(-0.5, k - 0.5)
        one.set_ylim(k - 0.5, -0.5)
        _confusion_cells(one, matrix, small=side / k < 34)
        one.xaxis.tick_top()
        one.set_xticks(range(k), names, rotation=55 if slanted else 0,
                       ha="left" if slanted else "center", rotation_mode="anchor")  # fmt: skip
        one.set_yticks(range(k), names)
        one.tick_params(length=0, pad=5, labelcolor=COLOURS["ink"])
        _axis_words(one, left, top)
        return finish(figure, name, title, about)


def _axis_words(one: Axes, left: float, top: float) -> None:
    one.annotate(
        str(say("errors.predicted")), (0.5, 1), (0, top - 8), xycoords="axes fraction",
        textcoords="offset points", ha="center", va="top", color=COLOURS["muted"],
        annotation_clip=False,
    )  # fmt: skip
    one.annotate(
        str(say("errors.true")), (0, 0.5), (-left + 3, 0), xycoords="axes fraction",
        textcoords="offset points", ha="center", va="top", rotation=90, rotation_mode="anchor",
        color=COLOURS["muted"], annotation_clip=False,
    )  # fmt: skip


def _confusion_cells(one: Axes, matrix: Sequence[Sequence[int]], small: bool) -> None:
    from matplotlib.patches import Rectangle

    # no cell is darker than the page's ink can be read on, in either theme
    across = 1.5 * len(matrix) / (one.bbox.width or 1.0)
    down = 1.5 * len(matrix) / (one.bbox.height or 1.0)
    for row, counts in enumerate(matrix):
        total = sum(counts)
        for column, count in enumerate(counts):
            share = count / total if total else 0.0
            colour = COLOURS["model" if row == column else "second"]
            one.add_patch(
                Rectangle((column - 0.5 + across, row - 0.5 + down), 1 - 2 * across, 1 - 2 * down,
                          facecolor=colour, alpha=round(0.05 + 0.5 * share, 3), linewidth=0)
            )  # fmt: skip
            if not count and len(matrix) > 4:
                continue
            write = partial(one.text, column, ha="center", va="center", color=COLOURS["ink"])
            if len(matrix) <= 4:
                write(row - 0.09, f"{count:,}", fontsize=17, weight="bold")
                write(row + 0.22, f"{100 * share:.1f}%", fontsize=12)
            else:
                write(row, f"{count:,}", fontsize=10.0 if small else 12.0)


def ticks(percent: bool) -> FuncFormatter:
    """Numbers on an axis: 1,500 or 84%."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda y, _: f"{100 * y:.4g}%" if percent else f"{y:,.6g}")
