"""One table holds every visible string, in every language, and nothing else does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from string import Formatter

import pytest

from assay.report import strings
from assay.report.strings import (
    LANGUAGES,
    RECORDED,
    TABLE,
    chain,
    kind_name,
    literal,
    part_name,
    plural,
    recorded,
    say,
)

ROOT = Path(strings.__file__).parent
SOURCES = {
    path: path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.py"), *ROOT.glob("templates/*.j2")]
    if path.name != "strings.py"
}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_language_has_every_string_with_the_same_fields() -> None:
    languages = {language for row in TABLE.values() for language in row}
    for key, row in TABLE.items():
        assert set(row) == languages, key
        assert len({frozenset(fields(text)) for text in row.values()}) == 1, key


def test_every_language_keeps_the_order_of_keys() -> None:
    files = [
        json.loads((ROOT / "words" / f"{language}.json").read_text(encoding="utf-8"))
        for language in LANGUAGES
    ]
    assert len({tuple(file) for file in files}) == 1


def test_chinese_is_chinese() -> None:
    same = {key for key, row in TABLE.items() if row["en"] == row["zh"]}
    for key in same:
        words = re.sub(r"{\w+}", "", TABLE[key]["en"])
        assert not re.search(r"[a-z]{3,}", words) or key in (
            *("brand", "command.verify", "command.predict", "language.en"),
        ), key
    for key, row in TABLE.items():
        assert not re.search("[,;:?!] |[\u4e00-\u9fff][,;:?.]", row["zh"]), key


def test_recorded_sentences_are_those_that_stages_write() -> None:
    package = ROOT.parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in package.glob("**/*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", source)
    blank = re.sub(r"(\{[^{}]*\})+", "{}", joined)
    for sentence in RECORDED:
        if "{" in sentence:
            # a list's end is written by itself: f" and {n} more"
            text = re.sub(r"\{\w+\}", "{}", sentence).replace("{} and", " and")
            assert f'f"{text}"' in blank, sentence
            assert fields(sentence) == fields(RECORDED[sentence])
            continue
        # what a stage fills in: f"the {self.method} after the head"
        filled = re.sub("temperature|isotonic", "{self.method}", sentence)
        assert f'"{sentence}"' in joined or f'f"{filled}"' in joined, sentence
    assert str(recorded("{braces} stay")) == "{braces} stay"


def test_what_a_recorded_sentence_fills_in_is_kept() -> None:
    said = "means, spreads and categories of {}, before the first stage"
    assert (
        recorded(said.format("age, {w}")).text("zh") == "第一阶段之前 age, {w} 的均值、离散度和类别"
    )
    assert (
        recorded(said.format("the columns")).text("zh") == "第一阶段之前 各列 的均值、离散度和类别"
    )
    some = recorded(said.format("a, b and 9 more"))
    assert some.text("zh") == "第一阶段之前 a, b 及另外 9 列 的均值、离散度和类别"
    assert some.text("en") == said.format("a, b and 9 more")


def test_every_key_in_use_is_in_the_table() -> None:
    used = {
        key
        for text in SOURCES.values()
        for key in re.findall(r"\b(?:say|t|plural|Phrase)\(\s*[\"']([a-z_0-9.]+)[\"'][,)]", text)
    }
    assert len(used) > 100
    for key in used:
        assert key in TABLE or (f"{key}.one" in TABLE and f"{key}.many" in TABLE), key


def test_no_string_is_left_over() -> None:
    text = "\n".join(SOURCES.values()) + Path(strings.__file__).read_text().split("LANGUAGE =")[1]
    quoted = set(re.findall(r"[\"']([a-z_0-9.]+)[\"']", text))
    # names made at run time: f"status.{...}", "status." ~ status, part_name("family", ...)
    made = set(re.findall(r'"([a-z_.]+\.)(?:\{|" ~)', text))
    made |= {f"{group}." for group in re.findall(r'part_name\("([a-z]+)"', text)}
    for key in TABLE:
        stem = key.removesuffix(".one").removesuffix(".many")
        known = key in quoted or stem in quoted or any(key.startswith(start) for start in made)
        assert known, f"{key} is shown nowhere"


@pytest.mark.parametrize(
    "name", ["report.html.j2", "compare.html.j2", "frame.html.j2", "macros.html.j2", "card.md.j2"]
)
def test_templates_hold_no_words(name: str) -> None:
    text = SOURCES[ROOT / "templates" / name]
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", text, flags=re.S)
    spoken = re.findall(r'(?:aria-label|title|alt|data-label)="([^"]*)"', text)
    text = re.sub(r"<[^>]*>", "", text)
    text = text.replace("```sh", "```").replace("yaml\n", "\n")
    assert re.findall(r"\w*[A-Za-z]\w*", text) == []
    assert re.findall(r"[A-Za-z]+", " ".join(spoken)) == []


def test_phrases_nest_and_are_written_late() -> None:
    phrase = say("verdict.better", delta=say("delta.points", value="1.2"), name="x", value="80%")
    assert str(phrase) == "That is 1.2 points better than x (80%), the best automatic baseline."
    assert say("literal", text="<b>").__html__() == "&lt;b&gt;"
    assert str(plural("verdict.all", 1)) == "The required claim holds."
    assert str(plural("verdict.all", 2, n=2)) == "All 2 required claims hold."
    assert str(chain([literal(1), literal(2)], "list")) == "1; 2"
    assert chain([]) is None


def test_braces_in_values_stay_as_they_are() -> None:
    assert str(literal("{text} {0.__class__}")) == "{text} {0.__class__}"


def test_unknown_names_are_shown_as_they_are() -> None:
    assert str(kind_name("quality.accuracy")) == "Accuracy"
    assert str(kind_name("fairness.equalised_odds")) == "Equalised odds"
    assert str(part_name("baseline", "tf-idf + logistic")) == "TF-IDF + logistic"
    assert str(part_name("baseline", "k_nearest")) == "k nearest"
