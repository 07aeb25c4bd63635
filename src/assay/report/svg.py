"""From matplotlib's SVG to one that lives inside the page: themed, labelled, small, repeatable.

Charts are drawn in stand-in colours, one for each role; here they become CSS variables, so that
the page's theme colours the chart. Text stays text in the page's own font.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: role -> stand-in colour; black is left out because matplotlib leaves it out of its SVG
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "model": "#040404",
    "other": "#050505",
    "second": "#060606",
    "good": "#070707",
    "bad": "#080808",
    "paper": "#090909",
}
FONT_SIZE = 12.0

_NAMESPACE = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_LONG = re.compile(r"-?\d+\.\d{3,}(?:e-?\d+)?")
#: no text of a chart may break the XML it travels in
_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _settings() -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "assay",
        "font.family": ["DejaVu Sans"],
        "font.size": FONT_SIZE,
        "text.color": COLOURS["ink"],
        "axes.labelcolor": COLOURS["muted"],
        "axes.edgecolor": COLOURS["line"],
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "xtick.color": COLOURS["muted"],
        "ytick.color": COLOURS["muted"],
        "axes.linewidth": 1.0,
        "axes.unicode_minus": False,
        "grid.color": COLOURS["line"],
        "grid.linewidth": 1.0,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
        "path.simplify": False,
        "text.parse_math": False,
        "text.usetex": False,
    }


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` CSS pixels to draw on; hand it to `finish` inside the block.

    One point of matplotlib is one pixel of the page. No global state of matplotlib is touched.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = _settings()  # matplotlib types every key of its settings
    with mpl.rc_context(settings), warnings.catch_warnings():
        # the page's own font draws the text: that matplotlib's lacks a letter does not matter
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        yield figure


def plain(text: object, longest: int = 200, end: int = 0) -> str:
    r"""Text fit for a chart: one line, no control characters, no longer than `longest`.

    Where it is cut, its last `end` characters are kept: names often differ only there.

    >>> plain("a\n<b>\x00"), plain("a very long name", 8), plain("class number 12", 12, 4)
    ('a <b>', 'a very…', 'class n…r 12')
    """
    line = " ".join(_UNFIT.sub(" ", str(text)).split())
    if len(line) <= longest:
        return line
    return line[: max(1, longest - 1 - end)].rstrip() + "…" + (line[-end:] if end else "")


def breadth(text: str) -> float:
    """How wide a text is, in Latin letters: an ideograph takes the room of two.

    >>> breadth("ROC"), breadth("ROC 曲线")
    (3, 8)
    """
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes with these margins in pixels, without a box."""
    width, height = figure.get_figwidth() * 72, figure.get_figheight() * 72
    made = figure.add_axes(
        (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - bottom - top) / height,
        )
    )
    for side in made.spines.values():
        side.set_visible(False)
    made.tick_params(length=0, pad=6)
    made.set_axisbelow(True)
    return made


def finish(figure: Figure, name: str, title: str, about: str) -> str:
    """The figure as an `<svg>` element for use inside HTML.

    Args:
        figure: the figure.
        name: prefix of every id in it; unique in the page.
        title: what it is, for those who cannot see it.
        about: what it shows, likewise.
    """
    stream = io.BytesIO()
    nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(stream, format="svg", metadata=nothing)
    return clean(stream.getvalue().decode(), name, title, about)


def clean(source: str, name: str, title: str, about: str) -> str:
    """Make an SVG document of matplotlib's an element of the page (see `finish`)."""
    root = ET.fromstring(source)
    _, _, width, height = root.attrib["viewBox"].split()
    kept = set(re.findall(r"url\(#([^)]+)\)", source)) | set(
        re.findall(r'xlink:href="#([^"]+)"', source)
    )
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_NAMESPACE}metadata", f"{_NAMESPACE}style"):
                parent.remove(child)
    _flatten(root)
    for element in root.iter():
        _tidy(element, name, kept)
    root.attrib.clear()
    root.attrib.update(
        {
            "class": "chart",
            "viewBox": f"0 0 {float(width):g} {float(height):g}",
            "width": f"{float(width):g}",
            "height": f"{float(height):g}",
            "role": "img",
            "aria-labelledby": f"{name}-t {name}-d",
        }
    )
    for place, (tag, text) in enumerate((("title", title), ("desc", about))):
        label = ET.Element(tag, {"id": f"{name}-{tag[0]}"})
        label.text = plain(text, 2000)
        root.insert(place, label)
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def _flatten(element: ET.Element) -> None:
    """Take out what is empty or unseen, and groups that only hold others together."""
    children = []
    for child in list(element):
        _flatten(child)
        group = child.tag in (f"{_NAMESPACE}g", f"{_NAMESPACE}defs")
        unseen = child.attrib.get("style", "") == "fill: none"
        if unseen or (group and not len(child)):
            continue
        bare = child.tag == f"{_NAMESPACE}g" and not set(child.attrib) - {"id"}
        children.extend(list(child) if bare else [child])
    for child in list(element):
        element.remove(child)
    element.extend(children)


def _tidy(element: ET.Element, name: str, kept: set[str]) -> None:
    element.tag = element.tag.removeprefix(_NAMESPACE)
    if element.tag != "text":
        element.text = None
    element.tail = None
    identity = element.attrib.pop("id", None)
    if identity in kept:
        element.set("id", f"{name}-{identity}")
    link = element.attrib.pop(_LINK, None)
    if link is not None:
        element.set("href", f"#{name}-{link.removeprefix('#')}")
    for key, value in list(element.attrib.items()):
        if key in ("id", "href"):
            continue
        if "#" in value:
            value = value.replace("url(#", f"url(#{name}-")
            for role, colour in COLOURS.items():
                value = value.replace(colour, f"var(--{role})")
        value = _LONG.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
        if key == "style":
            value = re.sub(r"font-family:[^;]*;?", "", value)
        if key == "transform" and value.startswith("rotate(-0 "):
            del element.attrib[key]
        else:
            element.set(key, " ".join(value.split()))
