"""How claimed values are written: the same function for the page, its charts and the card."""

from __future__ import annotations

import math
from collections.abc import Mapping

from assay.claims import Bound
from assay.report.strings import Phrase, literal, say

#: metrics that the field writes as a number between 0 and 1, not as a percentage
_DECIMAL = frozenset(
    {
        "auroc",
        "auprc",
        "macro_f1",
        "micro_f1",
        "f1",
        "mcc",
        "kappa",
        "r2",
        "brier",
        "ece",
        "adaptive_ece",
        "log_loss",
        "auc",
        "membership_auc",
    }
)
#: metrics where less is better, by the last word of their kind
_LESS = frozenset(
    {
        "rmse",
        "mae",
        "median_ae",
        "mse",
        "mape",
        "log_loss",
        "brier",
        "ece",
        "adaptive_ece",
        "epsilon",
        "epsilon_lower_bound",
        "membership_auc",
        "membership_advantage",
        "tpr_at_low_fpr",
        "bytes",
        "parameters",
        "macs",
        "p50_ms",
        "p99_ms",
        "equalised_odds",
        "demographic_parity",
    }
)
_UNITLESS = frozenset(
    {"", "1", "ratio", "none", "label", "probability", "number", "score", "fraction", "count"}
)


def metric_of(kind: str) -> str:
    """The last part of a kind: `quality.accuracy` is about `accuracy`."""
    return kind.rpartition(".")[2]


def less_is_better(kind: str) -> bool:
    """Whether a smaller value is the better one."""
    return metric_of(kind) in _LESS


def percentage(unit: str, kind: str) -> bool:
    """Whether values of this kind are written as percentages."""
    return unit == "fraction" and metric_of(kind) not in _DECIMAL


def number(value: object) -> float | None:
    """`value` as a finite float, or None when it is no such number (a bool is none)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def pair(value: object) -> tuple[float, float] | None:
    """Two finite numbers, or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    ends = [number(end) for end in value]
    if ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def significant(value: float, digits: int) -> str:
    """A number to so many significant digits, with thousands separators and no exponent nearby.

    >>> significant(1234.5, 3), significant(0.05321, 3), significant(11.68, 3), significant(0, 3)
    ('1,234', '0.0532', '11.7', '0')
    """
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -5 or size > 14:
        return f"{value:.1e}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"


def _scaled(value: float, steps: tuple[str, ...], extra: int) -> str:
    size = 0
    while abs(value) >= 1000 and size < len(steps) - 1:
        value, size = value / 1000, size + 1
    text = significant(value, 3 + extra) if size else f"{value:,.0f}"
    return f"{text} {steps[size]}".strip()


def shown(value: object, unit: str = "", kind: str = "", extra: int = 0) -> str:
    """A claimed value as the page writes it.

    Args:
        value: the value.
        unit: its unit of measure.
        kind: its kind of claim, which decides between 0.845 and 84.5%.
        extra: digits more than usual.

    >>> shown(0.8452, "fraction", "quality.accuracy"), shown(0.8452, "fraction", "quality.auroc")
    ('84.5%', '0.845')
    >>> shown(22713216, "count", "size.parameters"), shown(90_868_000, "bytes"), shown(11.684, "ms")
    ('22.7 M', '90.9 MB', '11.7 ms')
    """
    if value is None:
        return str(say("none"))
    if isinstance(value, bool):
        return str(say("yes" if value else "no"))
    amount = number(value)
    if amount is None:
        return str(value)
    if percentage(unit, kind):
        return f"{100 * amount:.{1 + extra}f}%"
    if unit == "fraction" or metric_of(kind) in _DECIMAL:
        return f"{amount:.{3 + extra}f}"
    if unit == "bytes":
        return _scaled(amount, ("B", "kB", "MB", "GB", "TB"), extra)
    if unit == "count":
        if amount.is_integer() and abs(amount) < 100_000:
            return f"{amount:,.0f}"
        return _scaled(amount, ("", "k", "M", "G", "T"), extra)
    text = significant(amount, (3 if unit == "ms" else 4) + extra)
    return _with_unit(text, unit)


def _with_unit(text: str, unit: str) -> str:
    return text if unit in _UNITLESS else f"{text} {unit.upper() if unit == 'usd' else unit}"


def exact(value: object) -> str:
    """A value with nothing rounded away, for machines and tool tips."""
    return "" if value is None else str(value)


def shown_interval(interval: object, unit: str, kind: str, extra: int = 0) -> Phrase | None:
    """`82.2 to 86.7%`: the unit is written once."""
    ends = pair(interval)
    if ends is None:
        return None
    low, high = (shown(end, unit, kind, extra) for end in ends)
    if percentage(unit, kind):
        low = low.removesuffix("%")
    elif " " in low and low.rpartition(" ")[2] == high.rpartition(" ")[2]:
        low = low.rpartition(" ")[0]
    return say("interval", low=low, high=high)


def difference(delta: float, unit: str, kind: str) -> Phrase:
    """The size of a difference: percentages differ by points.

    >>> str(difference(-0.012, "fraction", "quality.accuracy")), str(difference(3.2, "ms", ""))
    ('1.2 points', '3.20 ms')
    """
    size = abs(delta)
    if percentage(unit, kind):
        digits = 1
        while digits < 4 and size > 0 and float(f"{100 * size:.{digits}f}") == 0:
            digits += 1
        text = f"{100 * size:.{digits}f}"
        return say("delta.point" if float(text) == 1 else "delta.points", value=text)
    extra = 0
    while (
        extra < 4 and size > 0 and not any(c in "123456789" for c in shown(size, unit, kind, extra))
    ):
        extra += 1
    return literal(shown(size, unit, kind, extra))


def told_apart(value: object, limit: float, unit: str, kind: str) -> tuple[str, str]:
    """A value and its limit, with digits enough that unequal numbers do not read the same.

    >>> told_apart(0.8399, 0.84, "fraction", "quality.accuracy")
    ('83.99%', '84%')
    """
    return shown(value, unit, kind, digits_apart(value, limit, unit, kind)), _round_limit(
        limit, unit, kind
    )


def digits_apart(value: object, other: object, unit: str, kind: str) -> int:
    """How many digits more than usual it takes that two unequal values do not read the same."""
    extra = 0
    while value != other and extra < 5:
        if shown(value, unit, kind, extra) != shown(other, unit, kind, extra):
            break
        extra += 1
    return extra


def _round_limit(limit: float, unit: str, kind: str) -> str:
    """A limit as a person would write it: 84%, not 84.0%."""
    if percentage(unit, kind):
        return f"{100 * limit:.6g}%"
    if unit == "bytes" or (unit == "count" and abs(limit) >= 100_000):
        text, _, step = shown(limit, unit, kind, 2).partition(" ")
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text} {step}".strip()
    text = f"{limit:,.10g}" if abs(limit) < 1e15 else f"{limit:.6g}"
    return _with_unit(text, unit)


def parse_bound(text: object) -> Bound | None:
    """A bound as claims.json has it: its text, or its dump."""
    if isinstance(text, Mapping):
        text = text.get("text")
    try:
        return Bound(text=str(text)) if text is not None else None
    except ValueError:
        return None


_WORDS = {
    ">=": "bound.at_least",
    "<=": "bound.at_most",
    ">": "bound.above",
    "<": "bound.below",
    "==": "bound.equal",
}


def bound_words(bound: Bound, value: object, unit: str, kind: str) -> Phrase:
    """`at least 84%`."""
    return say(_WORDS[bound.operator], limit=told_apart(value, bound.limit, unit, kind)[1])


def duration(seconds: float) -> Phrase:
    """A time in words.

    >>> str(duration(4.21)), str(duration(252)), str(duration(7380))
    ('4.2 s', '4 min 12 s', '2 h 3 min')
    """
    if seconds < 59.95:
        return say("time.seconds", s=f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}")
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return say("time.minutes", m=minutes, s=rest)
    return say("time.hours", h=minutes // 60, m=minutes % 60)
