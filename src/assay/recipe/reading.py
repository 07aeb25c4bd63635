"""Reading a recipe's YAML: strict, safe, and with the line of every mistake.

Scalars follow YAML 1.2: only `true` and `false` are booleans (a label `no` stays text), `1e-5` is
a number, dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from assay.errors import UsageError

#: how deep and how large a recipe may be; an alias counts each time it is used
MAX_DEPTH, MAX_NODES = 64, 50_000

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2 scalars, refusing duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """A dict; each key once (a merged key may be overridden)."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == _TAG + "merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {str(key)!r} stands twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: Any) -> int:
        """Decimal, `0x` or `0o`."""
        text = str(node.value).replace("_", "")
        return int(text, 0) if text.lstrip("+-")[:2] in ("0x", "0o") else int(text, 10)

    def construct_number(self, node: Any) -> float:
        """A decimal fraction; `.inf` and `.nan` too (fields refuse them by name)."""
        return float(str(node.value).replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML 1.1 or 1.2 would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Values are written out wherever they stand."""
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag in (_TAG + "null", _TAG + "merge")]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        _TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    _class.add_implicit_resolver(
        _TAG + "int",
        re.compile(r"^[-+]?[0-9][0-9_]*$|^0o[0-7]+$|^0x[0-9a-fA-F]+$"),
        list("-+0123456789"),
    )
    _class.add_implicit_resolver(
        _TAG + "float",
        re.compile(
            r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"
            r"|^[-+]?\.inf$|^\.nan$"
        ),
        list("-+0123456789."),
    )
_Loader.add_constructor(_TAG + "int", _Loader.construct_integer)
_Loader.add_constructor(_TAG + "float", _Loader.construct_number)


def read_text(path: Path) -> str:
    """The text of a recipe file.

    Raises:
        UsageError: it is missing, a folder, unreadable or not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError("no such file", where=str(path), mend="correct the path") from None
    except IsADirectoryError:
        raise UsageError(
            "this is a folder, not a recipe", where=str(path), mend="name a YAML file"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"cannot read: {reason}", where=str(path), mend="correct the path"
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            "not UTF-8 text", where=f"{path}:{line}", mend="save the file as UTF-8"
        ) from None


def parse_yaml(text: str, where: str) -> tuple[Any, dict[str, int]]:
    """Plain data of one YAML document, and the line of every path in it.

    Args:
        text: the document.
        where: what to call it in messages (a file name).

    Returns:
        the data, and path -> line (from 1), paths as in messages: `stages[0].finetune.epochs`.

    Raises:
        UsageError: it is not YAML, a key stands twice, or it is too deep or too large.
    """
    loader: Any = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = _lines(node, where)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{where}:{mark.line + 1}" if mark else where
        column = f" at column {mark.column + 1}" if mark else ""
        problem = error.problem or error.context or "cannot be read"
        mend = "remove one of the two" if "stands twice" in problem else "correct this line"
        if "\\t" in problem:
            problem, mend = "a tab where YAML wants spaces", "indent with spaces"
        raise UsageError(f"not valid YAML: {problem}{column}", where=at, mend=mend) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"not valid YAML: {reason}", where=where, mend="correct the file"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def write_yaml(value: Any) -> str:
    """Plain data as YAML; `parse_yaml` gives it back."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text


def _lines(root: Any, where: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    count = 0
    stack: list[tuple[Any, str, int]] = [(root, "", 0)]
    while stack:
        node, path, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            raise UsageError(
                "too deep or too large for a recipe",
                where=f"{where}:{node.start_mark.line + 1}",
                mend="remove nested aliases",
            )
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = f"{path}.{key.value}" if path else str(key.value)
                lines[here] = key.start_mark.line + 1
                stack.append((value, here, depth + 1))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                here = f"{path}[{index}]"
                lines[here] = value.start_mark.line + 1
                stack.append((value, here, depth + 1))
    return lines


def line_of(path: str, lines: dict[str, int]) -> int | None:
    """The line of a path, or of the nearest enclosing one that stands in the file."""
    while path:
        if path in lines:
            return lines[path]
        cut = max(path.rfind(mark) for mark in ".[:")
        path = path[:cut] if cut > 0 else ""
    return None
