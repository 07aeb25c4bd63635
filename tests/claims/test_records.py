from __future__ import annotations

from collections.abc import Callable

import pytest

from assay.claims import Claim
from assay.claims.passport import ClaimRecord, Origin, Passport, Record, StageRecord
from assay.claims.records import NOTHING, START, misfit, parse_statement, statement, subject_of
from assay.errors import ArtefactError
from assay.files import canonical_json, sha256

DIGEST = sha256(b"w")


def stage(index: int) -> StageRecord:
    return StageRecord(index=index, name="audit", subject=DIGEST)


def test_a_record_holds_what_its_type_says(origin: Origin) -> None:
    with pytest.raises(ValueError, match="holds stage alone"):
        Record(type="stage", origin=origin)
    with pytest.raises(ValueError, match="holds stage alone"):
        Record(type="stage", origin=origin, stage=stage(0))
    assert Record.of(stage(0)).plain() == {
        "type": "stage",
        "stage": {
            "index": 0,
            "name": "audit",
            "config": {},
            "effects": {
                "adds": [],
                "keeps": [],
                "reads": [],
                "moves": "",
                "structure_adds": [],
                "structure_removes": [],
                "notes": [],
                "model": None,
            },
            "used": {},
            "subject": DIGEST,
        },
    }


@pytest.mark.parametrize("digest", ["", "x" * 64, "A" * 64, DIGEST[:-1]])
def test_a_subject_is_a_sha256(digest: str) -> None:
    with pytest.raises(ValueError, match="string"):
        StageRecord(index=0, name="audit", subject=digest)


def test_settings_may_be_a_list() -> None:
    record = StageRecord(index=0, name="audit", config=[{"quality": {}}], subject=DIGEST)
    assert Record.of(record).plain()["stage"]["config"] == [{"quality": {}}]


def test_order(origin: Origin, claim: Callable[..., Claim]) -> None:
    begun = (Record.of(origin),)
    staged = (*begun, Record.of(stage(0)))
    claimed = (*staged, Record.of(ClaimRecord(stage=0, claim=claim())))

    def fits(before: tuple[Record, ...], content: Origin | StageRecord | ClaimRecord) -> bool:
        return misfit(before, Record.of(content)) is None

    assert fits((), origin)
    assert not fits((), stage(0))
    assert not fits((), ClaimRecord(stage=0, claim=claim()))
    assert fits(begun, stage(0))
    assert not fits(begun, stage(1))
    assert not fits(begun, ClaimRecord(stage=0, claim=claim()))
    assert fits(staged, stage(1))
    assert not fits(staged, stage(0))
    assert not fits(staged, stage(2))
    assert fits(claimed, ClaimRecord(stage=0, claim=claim()))
    assert not fits(claimed, ClaimRecord(stage=1, claim=claim()))
    assert fits(claimed, stage(1))
    assert fits(claimed, origin)
    again = (*claimed, Record.of(origin))
    assert fits(again, stage(0))
    assert not fits(again, stage(1))
    assert not fits(again, ClaimRecord(stage=0, claim=claim()))


def test_subject(origin: Origin, claim: Callable[..., Claim]) -> None:
    first, second = Record.of(origin), Record.of(stage(0))
    third = Record.of(ClaimRecord(stage=0, claim=claim()))
    assert subject_of((), first) == origin.model_digest
    assert subject_of((first,), second) == DIGEST
    assert subject_of((first, second), third) == DIGEST
    assert subject_of((first, second, third), first) == origin.model_digest
    assert subject_of((), third) == NOTHING == sha256(b"")


def test_a_statement_round_trips(passport: Passport) -> None:
    for index, record in enumerate(passport.records):
        before = passport.records[:index]
        line = statement(record, index, START, subject_of(before, record))
        assert parse_statement(line, index, START, before, "here") == record


def test_what_an_older_version_did_not_write_takes_its_default(origin: Origin) -> None:
    plain = Record.of(origin).plain()
    del plain["origin"]["threads"]
    line = canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "model.safetensors", "digest": {"sha256": origin.model_digest}}],
            "predicateType": "urn:assay:record:v1",
            "predicate": {**plain, "index": 0, "previous": START},
        }
    )
    read = parse_statement(line, 0, START, (), "here")
    assert read.origin is not None
    assert read.origin.threads == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Statement/v1", "Statement/v2", "not an in-toto Statement v1"),
        ("urn:assay:record:v1", "urn:assay:record:v2", "another version of assay"),
        ('"index":0', '"index":false', "number False"),
        ('"index":0', '"index":0.0', "number 0.0"),
        ('"index":0', '"index":1', "dropped, added or moved"),
        ('"index":0', '"index":0,"index":0', "stands twice"),
        ('"index":0', '"index": 0', "canonical"),
        ('"index":0', '"index":NaN', "NaN is not a number"),
        ('"index":0', '"index":1e999', "1e999 is not a number"),
        ('"seed":7', '"seed":true', "wrong type"),
        ('"seed":7', '"seed":"7"', "wrong type"),
        ('"seed":7', '"seed":7.0', "wrong type"),
        ('"seed":7', '"need":7,"seed":7', "canonical"),
        ('"seed":7', '"seed":7,"seee":7', "Extra inputs"),
        ('"threads":2', '"threads":0', "origin.threads"),
        ('"type":"origin"', '"type":"stage"', "holds stage alone"),
        ("reviews", "\\ud800", "canonical"),
        ("reviews", "revi\\u0065ws", "canonical"),
        (START, "1" + START[1:], "chain is broken"),
        ("model.safetensors", "other.safetensors", "subject"),
    ],
)
def test_strictness(origin: Origin, old: str, new: str, message: str) -> None:
    line = statement(Record.of(origin), 0, START, origin.model_digest).decode()
    assert old in line
    with pytest.raises(ArtefactError, match=message) as caught:
        parse_statement(line.replace(old, new, 1).encode(), 0, START, (), "line 1")
    assert str(caught.value).startswith("line 1: ")


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_statement(data: bytes) -> None:
    with pytest.raises(ArtefactError):
        parse_statement(data, 0, START, (), "line 1")
