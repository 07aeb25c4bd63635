"""Charts as elements of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from assay.report.figures import Line, confusion, curves
from assay.report.strings import say
from assay.report.svg import COLOURS, axes, drawing, finish, plain


def draw(text: str = "hello", name: str = "one") -> str:
    with drawing(200, 100) as figure:
        one = axes(figure, 20, 20, 10, 10)
        one.plot([0, 1, 2], [1, 3, 2], color=COLOURS["model"], marker="o")
        one.fill_between([0, 1], [1, 2], color=COLOURS["second"], alpha=0.5)
        one.text(1, 2, text, color=COLOURS["ink"])
        return finish(figure, name, "A <title>", 'What "it" shows')


def test_a_chart_is_one_labelled_element_in_the_colours_of_the_page() -> None:
    source = draw()
    root = ET.fromstring(source)
    assert root.tag == "svg"
    assert root.attrib["role"] == "img" and root.attrib["viewBox"] == "0 0 200 100"
    assert root.attrib["aria-labelledby"] == "one-t one-d"
    assert root.findtext("title") == "A <title>"
    assert root.findtext("desc") == 'What "it" shows'
    assert "var(--model)" in source and "var(--second)" in source
    assert not re.findall(r"#[0-9a-f]{6}\b", source)
    assert "font-family" not in source and "<style" not in source and "metadata" not in source
    assert "hello" in source


def test_ids_are_unique_and_lead_somewhere() -> None:
    source = draw(name="a") + draw(name="b")
    ids = re.findall(r'\bid="([^"]+)"', source)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"', source)) | set(re.findall(r"url\(#([^)]+)\)", source))
    assert used and used <= set(ids)


def test_the_same_chart_has_the_same_bytes() -> None:
    assert draw() == draw()


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw()
    assert dict(mpl.rcParams) == before


def test_any_text_is_fit_for_a_chart() -> None:
    assert plain(" a\n\tb\x00\x07\ud800 ") == "a b"
    assert plain("x" * 50, 10) == "x" * 9 + "…"
    for text in ("<script>&\"'</script>", "$x^2$", "评论", "😀", "a\x0bb\ud800", ""):
        source = confusion([text, "b"], [[1, 2], [3, 4]], "c", 300, text, text)
        shown = [element.text for element in ET.fromstring(source).iter("text")]
        assert not plain(text) or plain(text, 18, 5) in shown


def test_a_confusion_matrix_writes_its_counts() -> None:
    root = ET.fromstring(confusion(["a", "b"], [[1234, 0], [5, 15]], "c", 300, "t", "d"))
    texts = [element.text for element in root.iter("text")]
    for text in ("1,234", "100.0%", "0", "0.0%", "5", "25.0%", "15", "75.0%"):
        assert text in texts


def test_ends_of_curves_do_not_cover_each_other() -> None:
    lines = [Line("train", ((0, 1), (9, 0.500))), Line("valid", ((0, 1), (9, 0.501)), True)]
    root = ET.fromstring(curves(lines, say("literal", text="step"), False, "c", 400, "t", "d"))
    heights = {e.text: float(e.attrib["y"]) for e in root.iter("text")}
    assert heights["train"] - heights["valid"] > 12
