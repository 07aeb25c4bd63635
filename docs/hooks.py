"""MkDocs asks here at every build: the generated pages join those that are written by hand."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import part_pages

_written: dict[str, str] = {}
_CHINESE = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages, once for all languages, and add them to the navigation."""
    logging.getLogger("jieba").setLevel(logging.WARNING)
    if not _written:
        _written.update(part_pages.pages("en"))
        for path, text in part_pages.pages("zh").items():
            _written[path.removesuffix(".md") + ".zh.md"] = text
    nav: list[Any] = config.nav or []
    title = part_pages.WORDS["en"]["title"]
    if not any(isinstance(item, dict) and title in item for item in nav):
        nav.insert(-1, {title: part_pages.navigation()})
        config.nav = nav
        languages = config.plugins["i18n"].config.languages
        (chinese,) = [one for one in languages if one.locale == "zh"]
        chinese.nav_translations = {
            **(chinese.nav_translations or {}),
            title: part_pages.WORDS["zh"]["title"],
            **{kind["en"][0]: kind["zh"][0] for kind in part_pages.KINDS.values()},
        }
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Announce the pages; they have no file of their own."""
    for path in _written:
        if files.get_file_from_path(path) is None:
            place = (config.docs_dir, config.site_dir, config.use_directory_urls)
            files.append(File(path, *place))
    return files


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    """The text of a generated page; any other is read from its file."""
    return _written.get(page.file.src_uri)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Drawings are put into the page itself, so that they take the colours of its theme; lines of
    Chinese are joined.
    """

    def inline(found: re.Match[str]) -> str:
        name = Path(config.docs_dir) / found[1]
        locale = str(getattr(page.file, "locale", "en"))
        own = name.with_suffix(f".{locale}.svg")
        drawing = (own if own.is_file() else name).read_text(encoding="utf-8").strip()
        return f"<div>{drawing}</div>"  # a block of its own, or Markdown takes it for prose

    drawn = re.sub(r"!\[[^\]]*\]\((img/[\w-]+\.svg)\)", inline, markdown)
    # a line's end is a space in English, and nothing between two Chinese characters
    return re.sub(rf"(?<={_CHINESE})\n(?={_CHINESE})", "", drawn)
