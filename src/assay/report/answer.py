"""The answer first: what was required and whether it holds, in plain words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.claims import Bound
from assay.report.figures import in_languages, strip
from assay.report.numbers import (
    bound_words,
    difference,
    exact,
    less_is_better,
    metric_of,
    number,
    pair,
    parse_bound,
    shown,
    shown_interval,
)
from assay.report.reading import RunFiles, as_index, as_list, as_map, identity
from assay.report.strings import Phrase, chain, kind_name, part_name, plural, say
from assay.report.timeline import (
    STATUSES,
    about_of,
    digits_of,
    interval_of,
    kind_of,
    replay,
    unit_of,
    value_of,
    voided_by,
    where_of,
)

#: which quality speaks for a model, first come first
PREFERRED = [
    "accuracy",
    "auroc",
    "rmse",
    "balanced_accuracy",
    "macro_f1",
    "r2",
    "mae",
    "auprc",
    "sensitivity",
    "specificity",
    "ppv",
]


@dataclass(frozen=True)
class Required:
    """One required claim, ready to show.

    Attributes:
        kind, name: what was required.
        about: of which data set, split, conditions.
        value: its value as shown.
        exact: its value, not rounded.
        bound: the bound in words.
        interval, n: as shown.
        ok: whether it holds.
        void: whether the value is one that a later stage voided.
        margin: by how much it holds or misses.
        miss: the sentence that says what is wrong, where it does not hold.
        strip: its picture.
    """

    kind: str
    name: Phrase
    about: Phrase | None
    value: str
    exact: str
    bound: Phrase
    interval: Phrase | None
    n: Phrase | None
    ok: bool
    void: bool
    margin: Phrase | None
    miss: Phrase | None
    strip: str


@dataclass(frozen=True)
class Answer:
    """The head of the page: `good`, `bad` or `plain`; a headline; sentences; required claims."""

    tone: str
    headline: Phrase
    sentences: tuple[Phrase, ...]
    required: tuple[Required, ...]


def claim_required(run: RunFiles, item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The claim that a required one speaks of; an empty mapping when none was stated."""
    where = item.get("where")
    said = str(where) if not isinstance(where, Mapping) else " ".join(map(str, where.values()))

    def closeness(claim: Mapping[str, Any]) -> tuple[bool, int, bool]:
        named = sum(
            bool(claim.get(key)) and str(claim[key]) in said for key in ("dataset", "split")
        )
        return claim.get("value") == item.get("value"), named, claim.get("status") == "holds"

    same = [claim for claim in run.claims if claim.get("kind") == item.get("kind")]
    return max(same, key=closeness, default={})


def required(run: RunFiles) -> tuple[Required, ...]:
    """All required claims, in the recipe's order."""
    return tuple(_required(run, item, place) for place, item in enumerate(run.require))


def _required(run: RunFiles, item: Mapping[str, Any], place: int) -> Required:
    kind = str(item.get("kind") or "")
    claim = claim_required(run, item)
    unit, bound, ok = unit_of(claim), parse_bound(item.get("bound")), item.get("ok") is True
    raw = item.get("value") if item.get("value") is not None else claim.get("value")
    value = number(raw)
    extra = digits_of(run, claim, raw)
    text = shown(raw, unit, kind, extra)
    words = bound_words(bound, raw, unit, kind) if bound else say("require.any")
    n = as_index(claim.get("n"))
    interval = shown_interval(claim.get("interval"), unit, kind, extra)
    return Required(
        kind=kind,
        name=kind_name(kind),
        about=about_of(run, claim),
        value=text,
        exact=exact(raw),
        bound=words,
        interval=interval,
        n=None if n is None else say("rows.n", n=f"{n:,}"),
        ok=ok,
        void=claim.get("status") == "void",
        margin=_margin(bound, value, unit, kind, ok),
        miss=None if ok else _miss(run, claim, bound, raw, (kind_name(kind), text, words)),
        strip=_strip(claim, bound, value, ok, place, (text, interval, words)),
    )


def _margin(
    bound: Bound | None, value: float | None, unit: str, kind: str, ok: bool
) -> Phrase | None:
    if bound is None or value is None or ok != bound.passes(value):
        return None
    delta = difference(value - bound.limit, unit, kind)
    if ok:
        return say("margin.exact") if value == bound.limit else say("margin.spare", delta=delta)
    if bound.operator == "==":
        return say("margin.off", delta=delta)
    return say("margin.short" if value < bound.limit else "margin.over", delta=delta)


def _miss(
    run: RunFiles,
    claim: Mapping[str, Any],
    bound: Bound | None,
    raw: object,
    told: tuple[Phrase, str, Phrase],
) -> Phrase:
    """Why a required claim does not hold; `told` is its name, value and bound in words."""
    kind, unit = kind_of(claim), unit_of(claim)
    what, text, words = told
    stage = voided_by(run, replay(run).get(identity(claim), ())) if claim else None
    interval = pair(claim.get("interval"))
    value = number(raw)
    if not claim:
        return say("verdict.miss_unmeasured", what=what)
    if claim.get("status") == "void" and stage is not None:
        return say("verdict.miss_void", what=what, value=value_of(run, claim), stage=stage.index)
    if claim.get("status") == "void":
        return say("verdict.miss_void_since", what=what, value=value_of(run, claim))
    if claim.get("status") == "unverifiable":
        return say("verdict.miss_unverifiable", what=what)
    if bound is None or value is None or claim.get("status") == "fails":
        return say("verdict.miss_fails", what=what, value=text)
    if bound.passes(value) and interval is not None:
        worst = shown(bound.worst(interval), unit, kind)
        return say("verdict.miss_strict", what=what, value=text, worst=worst, bound=words)
    margin = _margin(bound, value, unit, kind, False) or say("status.fails")
    return say("verdict.miss", what=what, value=text, margin=margin, bound=words)


def _strip(
    claim: Mapping[str, Any],
    bound: Bound | None,
    value: float | None,
    ok: bool,
    place: int,
    told: tuple[str, Phrase | None, Phrase],
) -> str:
    """The picture of a required claim; `told` is its value, interval and bound in words."""
    if bound is None or value is None or bound.operator == "==":
        return ""
    text, interval, words = told
    what = kind_name(kind_of(claim))
    about = (
        say("require.strip", what=what, value=text, interval=interval, bound=words)
        if interval
        else say("require.strip_point", what=what, value=text, bound=words)
    )
    return in_languages(
        f"strip{place}",
        lambda name: strip(
            value,
            pair(claim.get("interval")),
            bound.limit,
            bound.operator.startswith(">"),
            ok,
            unit_of(claim) != "fraction",
            name,
            str(what),
            str(about),
        ),
    )


def main_claim(run: RunFiles) -> Mapping[str, Any]:
    """The claim that speaks for the model: a required quality, else the first of `PREFERRED`."""
    wanted = [item.get("kind") for item in run.require]

    def rank(claim: Mapping[str, Any]) -> tuple[int, int, bool, bool]:
        kind = kind_of(claim)
        metric = metric_of(kind)
        return (
            wanted.index(kind) if kind in wanted else len(wanted),
            PREFERRED.index(metric) if metric in PREFERRED else len(PREFERRED),
            claim.get("status") not in ("holds", "", None),
            claim.get("split") != "test",
        )

    quality = [
        claim
        for claim in run.claims
        if kind_of(claim).startswith("quality.") and number(claim.get("value")) is not None
    ]
    return min(quality, key=rank, default={})


def quality_evidence(run: RunFiles, claim: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the audit that stated a claim kept for the report."""
    stage = as_index(claim.get("stage"))
    found = [
        (at, evidence)
        for (at, name), evidence in run.evidence.items()
        if re.fullmatch(r"quality(-\d+)?", name)
    ]

    def closeness(item: tuple[int, Mapping[str, Any]]) -> tuple[bool, bool, int]:
        at, evidence = item
        return at == stage, evidence.get("split") in (None, claim.get("split")), at

    return max(found, key=closeness, default=(0, {}))[1]


@dataclass(frozen=True)
class Baseline:
    """An automatic baseline: its name, its metrics, intervals of those that have one."""

    name: Phrase
    metrics: Mapping[str, Any]
    intervals: Mapping[str, Any]

    def value(self, kind: str) -> float | None:
        """Its value for a kind of claim."""
        return number(self.metrics.get(metric_of(kind)))


def baselines(run: RunFiles, claim: Mapping[str, Any]) -> list[Baseline]:
    """The baselines measured beside a claim, the best of its kind first."""
    kind = kind_of(claim)
    found = [
        Baseline(
            part_name("baseline", str(item.get("name") or "")),
            as_map(item.get("metrics")),
            as_map(item.get("intervals")),
        )
        for item in map(as_map, as_list(quality_evidence(run, claim).get("baselines")))
    ]

    def rank(baseline: Baseline) -> float:
        value = baseline.value(kind)
        return math.inf if value is None else value if less_is_better(kind) else -value

    return sorted(found, key=rank)


def _headline_sentences(run: RunFiles, missed: set[str]) -> list[Phrase]:
    """What the main claim says, and against what; not its value again if it was `missed`."""
    claim = main_claim(run)
    if not claim:
        return []
    if kind_of(claim) in missed:
        return [] if claim.get("status") == "void" else _against_baseline(run, claim)
    name = kind_name(kind_of(claim))
    if claim.get("status") == "void":
        return [say("verdict.void_headline", metric=name, value=value_of(run, claim))]
    interval = interval_of(run, claim)
    level = number(claim.get("level")) or 0.95
    n, where = as_index(claim.get("n")), where_of(claim)
    values = {
        "metric": name,
        "value": value_of(run, claim),
        "interval": say("verdict.interval", level=f"{100 * level:g}%", interval=interval)
        if interval
        else "",
        "n": _counted(run, n),
    }
    first = (
        say("verdict.model", **values, where=where)
        if where
        else say("verdict.model_bare", **values)
    )
    return [first, *_against_baseline(run, claim)]


def _counted(run: RunFiles, n: int | None) -> Phrase | str:
    if n is None:
        return ""
    return say("verdict.n_units" if run.data.get("unit") else "verdict.n", n=f"{n:,}")


def _against_baseline(run: RunFiles, claim: Mapping[str, Any]) -> list[Phrase]:
    kind, unit = kind_of(claim), unit_of(claim)
    first = next(iter(baselines(run, claim)), None)
    best = first.value(kind) if first else None
    value = number(claim.get("value"))
    if first is None or best is None or value is None:
        return []
    gain = best - value if less_is_better(kind) else value - best
    ends = pair(claim.get("interval"))
    inside = ends is not None and ends[0] <= best <= ends[1]
    key = "same" if gain == 0 else "worse" if gain < 0 else "better"
    if gain and inside:
        key += "_unclear"
    delta, name = difference(gain, unit, kind), first.name
    return [say(f"verdict.{key}", name=name, value=shown(best, unit, kind), delta=delta)]


def _tally(run: RunFiles) -> list[Phrase]:
    counted = Counter(claim.get("status") for claim in run.claims)
    parts = [
        say(f"verdict.count.{status}{'.one' if counted[status] == 1 else ''}", n=counted[status])
        for status in STATUSES
        if counted[status]
    ]
    total = sum(counted[status] for status in STATUSES)
    if total > 1 and counted["holds"] == total:
        return [say("verdict.everything", n=total)]
    return [say("verdict.others", n=total, parts=chain(parts))] if total else []


def answer(run: RunFiles) -> Answer:
    """The answer of a run."""
    items = required(run)
    bad = [item for item in items if not item.ok]
    failing = sum(claim.get("status") == "fails" for claim in run.claims)
    if bad:
        tone = "bad"
        headline = (
            say("verdict.none.one")
            if len(items) == 1
            else plural("verdict.some", len(bad), bad=len(bad), n=len(items))
        )
    elif failing:
        tone, headline = "bad", plural("verdict.claims_fail", failing, n=failing)
    elif items:
        tone, headline = "good", plural("verdict.all", len(items), n=len(items))
    elif run.claims:
        tone, headline = "plain", say("verdict.free")
    else:
        return Answer("plain", say("verdict.empty"), (say("verdict.empty_more"),), ())
    missed = {item.kind for item in bad}
    main = kind_of(main_claim(run))
    # the sentences after the misses go on about the main claim, so its miss comes last
    bad.sort(key=lambda item: item.kind == main)
    sentences: Sequence[Phrase] = [
        *(item.miss for item in bad if item.miss is not None),
        *_headline_sentences(run, missed),
        *_tally(run),
    ]
    return Answer(tone, headline, tuple(sentences), items)
