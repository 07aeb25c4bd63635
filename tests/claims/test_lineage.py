"""What descends from one model to another that learns from it."""

from __future__ import annotations

from assay.claims import Effects, Read
from assay.claims.lineage import digest, inherited, private_data
from assay.claims.passport import Passport
from assay.claims.records import Origin, StageRecord
from assay.files import sha256

DIGEST = sha256(b"w")
STEPS = Read(split="train", influences=("weights",), why="steps")


def test_origins_reads_and_teachers_of_teachers(origin: Origin) -> None:
    theirs = {"origins": [{"data": "ward", "data_private": True}], "reads": []}
    stage = StageRecord(
        index=0,
        name="distill",
        effects=Effects(reads=(STEPS, STEPS)),
        used={"teachers": {"a": DIGEST, "b": DIGEST}, "inherits": {"a": theirs}},
        subject=DIGEST,
    )
    found = inherited(Passport().append(origin, stage))
    assert [o["recipe"] for o in found["origins"]] == [origin.recipe]
    assert found["origins"][0]["data_license"] == origin.data.license
    (read,) = [r for r in found["reads"] if r["stage"] == "distill"]
    assert (read["split"], read["data"]) == ("train", origin.data.name)
    assert found["teachers"] == {"a": theirs, "b": {"digest": DIGEST}}
    own = (origin.data.name,) if origin.data.private else ()
    assert private_data(found) == (*own, "ward")


def test_an_empty_passport_has_nothing_to_hand_on() -> None:
    assert inherited(Passport()) == {"digest": sha256(b""), "origins": [], "reads": []}
    assert digest(Passport()) == sha256(b"")
    assert private_data(inherited(Passport())) == ()
