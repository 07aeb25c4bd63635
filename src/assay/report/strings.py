"""Every visible string of the report and the card, in one table, and phrases made from it.

A template never holds a word: it shows phrases. A phrase keeps its key and its values until it is
written, so that one page shows it in several languages: a language is one more file in `words/`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

#: the language of everything that is shown once
LANGUAGE = "en"
#: the languages of a page, and what HTML's `lang` calls them; the first is shown at first
LANGUAGES = {"en": "en", "zh": "zh-Hans"}


def _table() -> dict[str, dict[str, str]]:
    words = Path(__file__).parent / "words"
    files = {
        language: json.loads((words / f"{language}.json").read_text(encoding="utf-8"))
        for language in LANGUAGES
    }
    return {
        key: {language: texts[key] for language, texts in files.items() if key in texts}
        for key in dict.fromkeys(key for texts in files.values() for key in texts)
    }


#: key -> language -> text; `{name}` is filled in from the phrase's values
TABLE = _table()

#: sentences that stages write into a passport, in English -> in Chinese; `{name}` is what they fill
#: in
RECORDED: dict[str, str] = json.loads(
    (Path(__file__).parent / "words" / "recorded.json").read_text(encoding="utf-8")
)


def _filled_in(sentence: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(sentence)), re.DOTALL)


#: those with something filled in
_PATTERNS = {_filled_in(sentence): sentence for sentence in RECORDED if "{" in sentence}

_SPOKEN: ContextVar[str] = ContextVar("language", default=LANGUAGE)


def spoken() -> str:
    """The language that `str` writes phrases in."""
    return _SPOKEN.get()


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Write phrases in a language inside the block.

    >>> with speaking("zh"):
    ...     str(say("bound.at_least", limit="84%"))
    '至少 84%'
    """
    token = _SPOKEN.set(language)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


@dataclass(frozen=True)
class Phrase:
    """A visible text: a key of `TABLE` and what fills it in (other phrases too).

    Attributes:
        key: key in `TABLE`.
        values: name -> value for the text's fields: another phrase, a text a language (a mapping),
            or what reads the same in all.
    """

    key: str
    values: Mapping[str, object] = field(default_factory=dict)

    def text(self, language: str | None = None) -> str:
        """The text in a language, by default the one that is `spoken`."""
        language = language or spoken()
        filled = {name: _filled(value, language) for name, value in self.values.items()}
        return TABLE[self.key][language].format(**filled)

    def __str__(self) -> str:
        return self.text()

    def __html__(self) -> str:
        """The text in all languages, of which the page shows one; once where they do not differ."""
        from markupsafe import escape

        texts = {lang: escape(self.text(language)) for language, lang in LANGUAGES.items()}
        if len(set(texts.values())) == 1:
            return str(next(iter(texts.values())))
        return "".join(f'<span lang="{lang}">{text}</span>' for lang, text in texts.items())


def _filled(value: object, language: str) -> object:
    if isinstance(value, Phrase):
        return value.text(language)
    return value[language] if isinstance(value, Mapping) else value


def say(key: str, /, **values: object) -> Phrase:
    """A phrase.

    >>> str(say("bound.at_least", limit="84%"))
    'at least 84%'
    """
    return Phrase(key, values)


def literal(text: object) -> Phrase:
    """A phrase that reads the same in every language: a name, a number."""
    return Phrase("literal", {"text": text})


def plural(key: str, n: int, /, **values: object) -> Phrase:
    """The phrase `key.one` or `key.many`, as `n` asks."""
    return Phrase(f"{key}.{'one' if n == 1 else 'many'}", values)


def chain(phrases: Iterable[Phrase], join: str = "pair") -> Phrase | None:
    """Phrases one after the other, joined by the two-field phrase `join`; None when there is none.

    >>> str(chain([literal("a"), literal("b"), literal("c")]))
    'a, b, c'
    """
    result: Phrase | None = None
    for phrase in phrases:
        result = phrase if result is None else Phrase(join, {"a": result, "b": phrase})
    return result


def part_name(group: str, name: str) -> Phrase:
    """What a family, a baseline, ... is called: its phrase, else its own name.

    >>> str(part_name("baseline", "mean")), str(part_name("baseline", "my_own"))
    ('mean', 'my own')
    """
    key = f"{group}.{re.sub('[^a-z0-9]+', '_', name.lower())}"
    return Phrase(key) if key in TABLE else literal(name.replace("_", " "))


def recorded(text: str) -> Phrase:
    """What a stage wrote into the passport, in the page's languages where they are known.

    >>> recorded("gradient steps").text("zh"), recorded("their own").text("zh")
    ('梯度更新', 'their own')
    """
    if text in RECORDED:
        return literal({"en": text, "zh": RECORDED[text]})
    for pattern, sentence in _PATTERNS.items():
        found = pattern.fullmatch(text)
        if found:
            filled = {name: recorded(value).text("zh") for name, value in found.groupdict().items()}
            return literal({"en": text, "zh": RECORDED[sentence].format(**filled)})
    return literal(text)


def kind_name(kind: str) -> Phrase:
    """What a kind of claim is called.

    >>> str(kind_name("quality.macro_f1")), str(kind_name("fairness.equalised_odds"))
    ('Macro F1', 'Equalised odds')
    """
    key = f"kind.{kind}"
    if key in TABLE:
        return Phrase(key)
    words = kind.rpartition(".")[2].replace("_", " ").strip()
    return literal(words[:1].upper() + words[1:])
