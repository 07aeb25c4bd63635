"""What a model inherits from another one that it learns from: how that came about, and what of
data it has read, itself and through its own teachers.
"""

from __future__ import annotations

from typing import Any

from assay.claims.effects import Read
from assay.claims.passport import Passport
from assay.config import dump
from assay.files import sha256


def digest(passport: Passport) -> str:
    """SHA-256 of the last line of a passport, which names all lines before it."""
    return sha256(passport.lines[-1] if passport.lines else b"")


def inherited(passport: Passport) -> dict[str, Any]:
    """What descends to a model that learns from the passport's owner, as plain data.

    Returns:
        `digest`; `origins`: recipe, model, licences and data of each run; `reads`: each reading of
        data, its influence, and whether it was private or of private data; `charges`: private
        events and whose data they are of; `teachers`: the same of the models that this one learnt
        from, by name.
    """
    origins, reads, charges, teachers = [], [], [], {}
    for record in passport.records:
        if record.origin is not None:
            origin = record.origin
            origins.append(
                {
                    "recipe": origin.recipe,
                    "model": origin.model.name,
                    "model_digest": origin.model_digest,
                    "model_license": origin.model.license,
                    "data": origin.data.name,
                    "data_digest": origin.data_digest,
                    "data_license": origin.data.license,
                    "data_private": origin.data.private,
                }
            )
            reads += [_read(read, origins[-1], "model") for read in origin.reads]
            charges += _charges({"charged": origin.charged}, origin.data.name)
        elif record.stage is not None:
            stage = record.stage
            reads += [_read(read, origins[-1], stage.name) for read in stage.effects.reads]
            charges += _charges(stage.used, str(origins[-1]["data"]))
            teachers.update(stage.used.get("inherits", {}))
            for name, found in stage.used.get("teachers", {}).items():
                teachers.setdefault(name, {"digest": found})
    found = {"digest": digest(passport), "origins": origins, "reads": _once(reads)}
    found |= {"charges": charges} if charges else {}
    return {**found, "teachers": teachers} if teachers else found


def _charges(used: Any, data: str) -> list[dict[str, Any]]:
    """The private events that a record tells of."""
    found = []
    private = used.get("private")
    if private:
        told = {key: private[key] for key in ("events", "delta", "insecure") if key in private}
        found.append({"data": data, **told})
    if used.get("charged"):
        found.append({"data": data, "events": list(used["charged"])})
    return found


def private_data(lineage: dict[str, Any]) -> tuple[str, ...]:
    """Names of the private data behind what `inherited` gave, its teachers' included."""
    own = [o["data"] for o in lineage.get("origins", ()) if o["data_private"]]
    theirs = [n for t in lineage.get("teachers", {}).values() for n in private_data(t)]
    return tuple(dict.fromkeys([*own, *theirs]))


def data_behind(lineage: dict[str, Any]) -> tuple[str, ...]:
    """Names of all data behind what `inherited` gave, its teachers' included."""
    own = [o["data"] for o in lineage.get("origins", ())]
    theirs = [n for t in lineage.get("teachers", {}).values() for n in data_behind(t)]
    return tuple(dict.fromkeys([*own, *theirs]))


def _read(read: Read, origin: dict[str, Any], stage: str) -> dict[str, Any]:
    return {
        **dump(read),
        "data": origin["data"],
        "data_private": origin["data_private"],
        "stage": stage,
    }


def _once(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for i, item in enumerate(items) if item not in items[:i]]
