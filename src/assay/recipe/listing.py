"""What a recipe can start from: models and sample data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay import registry
from assay.config import build, dump, fields_of
from assay.errors import UsageError
from assay.recipe.doctor import has_module
from assay.recipe.show import count


def models() -> list[dict[str, Any]]:
    """Embedded models and architectures from scratch, as rows of plain data."""
    from assay.models.hub import EMBEDDED, SAVED_FORMS

    rows: list[dict[str, Any]] = []
    for name, item in sorted(EMBEDDED.items()):
        rows.append(
            {
                "name": name,
                "modality": item.card.modality,
                "pretrained": item.card.pretrained,
                "parameters": item.card.parameters,
                "license": item.card.license,
                "extra": item.extra,
                "installed": has_module(item.package),
                "about": item.about,
            }
        )
    for name, cls in registry.parts("architecture").items():
        if name in SAVED_FORMS:
            continue
        settings = ", ".join(f"{key}={default}" for key, (_, default) in fields_of(cls).items())
        rows.append(
            {
                "name": name,
                "modality": getattr(cls, "modality", ""),
                "pretrained": False,
                "parameters": None,
                "license": "none (from scratch)",
                "extra": "",
                "installed": True,
                "about": f"{(cls.__doc__ or name).strip().splitlines()[0]} Settings: {settings}",
            }
        )
    return rows


def samples() -> list[dict[str, Any]]:
    """All named samples, as rows of plain data; none is opened."""
    rows = []
    for name, cls in registry.parts("sample").items():
        sample: Any = cls()
        card = sample.card()
        rows.append(
            {
                "name": name,
                "modality": card.modality,
                "rows": card.rows,
                "classes": card.classes,
                "label": card.label,
                "sensitive": list(card.sensitive),
                "license": card.license,
                "extra": sample.extra,
                "about": (cls.__doc__ or name).strip().splitlines()[0],
            }
        )
    return rows


def fetch(name: str | None) -> Path:
    """Get a sample that comes with no package of Python's; gives the folder it lies in.

    Raises:
        UsageError: none is named, there is no such sample, or it comes with a package.
        LoadError: it cannot be had.
    """
    if name is None:
        raise UsageError(
            "no sample is named", where="assay data --fetch", mend="name one, e.g. fashion-mnist"
        )
    found: Any = registry.find("sample", name, "assay data")()
    where: Path = found.fetch()
    return where


def sample(name: str) -> dict[str, Any]:
    """A sample opened: card, schema, and the size and classes of each split.

    Raises:
        UsageError: there is no such sample.
        LoadError: it cannot be opened here.
    """
    from assay.data.config import DataConfig

    dataset = build(DataConfig, name, "data").load(Path.cwd(), None)
    splits: dict[str, Any] = {}
    for split in dataset.splits:
        facts: dict[str, Any] = {"rows": dataset.size(split)}
        if dataset.classes is not None:
            targets = dataset.targets(split)
            facts["classes"] = {
                label: int((targets == index).sum()) for index, label in enumerate(dataset.classes)
            }
        splits[split] = facts
    return {
        "card": dump(dataset.card),
        "digest": dataset.digest,
        "columns": {name: dump(column) for name, column in dataset.schema.columns.items()},
        "splits": splits,
    }


def sample_lines(facts: dict[str, Any]) -> list[str]:
    """`sample` for a person."""
    card = facts["card"]
    lines = [
        f"{card['name']}: {card['modality']}, {card['rows']:,} rows, licence {card['license']}",
        f"  label   {card['label']}",
        f"  digest  {facts['digest']}",
    ]
    for split, known in facts["splits"].items():
        shares = ", ".join(f"{label} {n:,}" for label, n in known.get("classes", {}).items())
        lines.append(f"  {split:<8}{known['rows']:,} rows" + (f": {shares}" if shares else ""))
    for name, column in facts["columns"].items():
        extra = ""
        if column.get("categories"):
            shown = column["categories"][:6]
            more = len(column["categories"]) - len(shown)
            extra = f": {', '.join(map(str, shown))}" + (f" and {more} more" if more else "")
        lines.append(f"  column  {name} ({column['kind']}, {column['role']}){extra}")
    return lines


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of plain data as aligned columns; the column `about` comes last, unaligned."""
    if not rows:
        return ["none"]
    names = [name for name in rows[0] if name != "about"]
    cells = [[_cell(name, row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(c[i]) for c in cells)) for i, name in enumerate(names)]
    lines = ["  ".join(n.ljust(w) for n, w in zip(names, widths, strict=True)).rstrip()]
    for row, line in zip(rows, cells, strict=True):
        padded = "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True))
        lines.append(f"{padded}  {row.get('about', '')}".rstrip())
    return lines


def _cell(name: str, value: Any) -> str:
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name == "parameters":
        return count(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
