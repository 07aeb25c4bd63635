"""The `require:` of a recipe, in all the ways it may be written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from assay.claims import Bound, Requirement
from assay.config import build
from assay.errors import UsageError

_KIND = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)+$")


def requirements(raw: Any) -> list[Requirement]:
    """Requirements from a mapping of kind to bound, or from a list.

    Raises:
        UsageError: it is neither, or a kind or bound is wrong; says which.
    """
    if raw is None:
        return []
    if isinstance(raw, Requirement):
        raw = [raw]
    if isinstance(raw, Mapping):
        pairs = [(f"require.{kind}", kind, value) for kind, value in raw.items()]
    elif isinstance(raw, (list, tuple)):
        pairs = [(f"require[{i}]", None, item) for i, item in enumerate(raw)]
    else:
        raise UsageError(
            f"expected a mapping from kind to bound, got {raw!r}",
            where="require",
            mend="write 'quality.accuracy: \">= 0.8\"'",
        )
    return [_requirement(where, kind, value) for where, kind, value in pairs]


def _requirement(where: str, kind: Any, value: Any) -> Requirement:
    if isinstance(value, Requirement):
        return value
    fields: dict[str, Any]
    if kind is None:
        fields = {"kind": value} if isinstance(value, str) else value
        if not isinstance(fields, Mapping):
            raise UsageError(
                f"expected a mapping, got {value!r}",
                where=where,
                mend="write {kind: ..., bound: ...}",
            )
    else:
        fields = dict(value) if isinstance(value, Mapping) else {"bound": value}
        if fields.setdefault("kind", kind) != kind:
            raise UsageError(
                f"the key says {kind}, its value {fields['kind']!r}", where=where, mend="write one"
            )
    if isinstance(fields.get("kind"), str) and not _KIND.match(fields["kind"]):
        raise UsageError(
            f"{fields['kind']!r} is no kind of claim",
            where=where,
            mend="write family.name, such as quality.accuracy",
        )
    bound = fields.get("bound")
    if bound is not None and not isinstance(bound, (Bound, Mapping)):
        fields = {**fields, "bound": {"text": _bound_text(bound, where)}}
    return build(Requirement, fields, where)


def _bound_text(bound: Any, where: str) -> str:
    """The bound, checked where its own message would speak of patterns."""
    match = re.fullmatch(r"\s*(>=|<=|==|>|<)\s*(\S+)\s*", bound) if isinstance(bound, str) else None
    try:
        if match and math.isfinite(float(match.group(2))):
            return str(bound)
    except ValueError:
        pass
    number = bound if isinstance(bound, (int, float)) else 0.8
    raise UsageError(
        f"expected a comparison with a number, got {bound!r}",
        where=where,
        mend=f'write ">= {number}" or "<= {number}"',
    )
