"""Claims with their status as CycloneDX declarations, and what was required of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.report.numbers import number, pair
from assay.report.reading import RunFiles, as_index, as_map
from assay.report.timeline import Track, kind_of

Json = dict[str, Any]

_ASSESSOR = "assessor:assay"
#: what a status means to somebody who has never seen assay
_MEANING = {
    "holds": "holds: true of the model as it is handed on",
    "fails": "fails: measured again, and not so",
    "void": "void: true once, not known since a later stage changed the model",
    "unverifiable": "unverifiable: cannot be measured here",
    "": "no status was computed",
}


def clean(value: object) -> str:
    r"""Text on one line that every reader of JSON can hold: lone surrogates and controls replaced.

    >>> clean("a\n b"), clean("\ud800"), clean("x\x00y")
    ('a b', '?', 'x y')
    """
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def stated(claim: Mapping[str, Any]) -> str:
    """What a claim speaks of: data set, split, conditions, and the number of rows.

    >>> stated({"dataset": "reviews", "split": "test", "n": 1000, "conditions": {"batch": 1}})
    'reviews, test split, batch 1, n = 1000'
    """
    parts = [clean(claim["dataset"])] if claim.get("dataset") else []
    if claim.get("split"):
        parts.append(f"{clean(claim['split'])} split")
    conditions = sorted(as_map(claim.get("conditions")).items(), key=lambda item: str(item[0]))
    parts += [f"{clean(name)} {clean(value)}" for name, value in conditions]
    n = as_index(claim.get("n"))
    return ", ".join([*parts, *([] if n is None else [f"n = {n}"])])


def attest(run: RunFiles, found: list[Track], target: str) -> tuple[Json, Json]:
    """The declarations of a run, and the requirements that they answer.

    Args:
        run: the run.
        found: its claims.
        target: `bom-ref` of the model that the claims speak of.

    Returns:
        `declarations` and `definitions`; the second is empty where nothing was required.
    """
    claims = [_claim(place, track, target) for place, track in enumerate(found)]
    evidence = [_evidence(place, track) for place, track in enumerate(found)]
    summary = "Every claim of the model's passport, with the status that replaying it gives."
    attestations = [
        {"summary": summary, "assessor": _ASSESSOR, "map": [_sides(list(enumerate(found)))]}
    ]
    if run.require:
        attestations.append(_answers(run, found))
    declarations: Json = {
        "assessors": [
            {"bom-ref": _ASSESSOR, "thirdParty": False, "organization": {"name": "assay"}}
        ],
        "attestations": attestations,
        "claims": claims,
        "evidence": evidence,
    }
    return declarations, _definitions(run) if run.require else {}


def _claim(place: int, track: Track, target: str) -> Json:
    about = f"evidence:{place}"
    # what is known to be untrue now, or not known, is no evidence for the claim
    side = "counterEvidence" if track.status in ("fails", "void") else "evidence"
    reasons = [_MEANING[track.status], *([clean(track.why)] if track.why is not None else [])]
    return {
        "bom-ref": f"claim:{place}",
        "target": target,
        "predicate": _predicate(track.claim),
        "reasoning": "; ".join(reasons),
        side: [about],
    }


def _predicate(claim: Mapping[str, Any]) -> str:
    """`quality.accuracy = 0.857 [0.83, 0.88] on reviews, test split, n = 1000`."""
    unit = clean(claim.get("unit") or "")
    value = claim.get("value")
    if isinstance(value, float) and number(value) is None:
        value = "not a finite number"
    text = f"{clean(kind_of(claim)) or 'unnamed'} = {'no value' if value is None else clean(value)}"
    if value is not None and unit not in ("", "fraction", "count"):
        text += f" {unit}"
    ends = pair(claim.get("interval"))
    if ends is not None:
        level = number(claim.get("level"))
        text += f" [{ends[0]!r}, {ends[1]!r}]" + ("" if level is None else f" at level {level:g}")
    about = stated(claim)
    return f"{text} on {about}" if about else text


def _evidence(place: int, track: Track) -> Json:
    """Where a claim was stated: the passport, never the rows that it was measured on."""
    claim = track.claim
    method = clean(claim.get("method") or "")
    how = clean(claim.get("nature") or "stated")
    passport = {"name": "the model's passport", "contents": {"url": "model/claims.jsonl"}}
    return {
        "bom-ref": f"evidence:{place}",
        "propertyName": clean(kind_of(claim)) or "unnamed",
        "description": f"{how}: {method}" if method else how,
        "data": [passport],
    }


def _sides(found: list[tuple[int, Track]]) -> Json:
    """Claims that hold, and those that fail or are void; unverifiable ones are on neither side."""
    return {
        "claims": [f"claim:{n}" for n, track in found if track.status == "holds"],
        "counterClaims": [f"claim:{n}" for n, track in found if track.status in ("fails", "void")],
    }


def _answers(run: RunFiles, found: list[Track]) -> Json:
    rows = []
    for place, item in enumerate(run.require):
        kind = item.get("kind")
        about = [(n, track) for n, track in enumerate(found) if track.claim.get("kind") == kind]
        same = [pair_ for pair_ in about if pair_[1].claim.get("value") == item.get("value")]
        met = item.get("ok") is True
        rows.append(
            {
                "requirement": f"requirement:{place}",
                **_sides(same or about),
                "conformance": {
                    "score": 1 if met else 0,
                    "rationale": clean(item.get("line") or ("met" if met else "not met")),
                },
            }
        )
    return {
        "summary": "What the recipe requires of the model.",
        "assessor": _ASSESSOR,
        "map": rows,
    }


def _bound(item: Mapping[str, Any]) -> str:
    bound = item.get("bound")
    return clean(as_map(bound).get("text") if isinstance(bound, Mapping) else bound or "")


def _definitions(run: RunFiles) -> Json:
    requirements = [
        {
            "bom-ref": f"requirement:{place}",
            "identifier": clean(item.get("kind")) or "unnamed",
            "text": " ".join(
                part
                for part in (clean(item.get("kind")), _bound(item), clean(item.get("where") or ""))
                if part
            ),
        }
        for place, item in enumerate(run.require)
    ]
    name = f"requirements of the recipe {clean(run.recipe_name) or 'unnamed'}"
    standard = {"bom-ref": "requirements", "name": name, "requirements": requirements}
    return {"standards": [standard]}
