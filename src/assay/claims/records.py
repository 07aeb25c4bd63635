"""What a passport holds: records, and their form as in-toto Statements."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from assay.claims.claim import Claim
from assay.claims.context import DataCard, ModelCard
from assay.claims.effects import Effects, Read
from assay.config import Config, dump
from assay.errors import ArtefactError
from assay.files import canonical_json, parse_json, sha256

#: hex SHA-256
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:assay:record:v1"
WEIGHTS = "model.safetensors"
#: what stands before the first line
START = "0" * 64
#: the digest of no bytes: that of the weights of a model made from scratch
NOTHING = sha256(b"")
MEND = "restore the artefact from its source"


class Origin(Config):
    """How a run began. A run that starts from a model with a passport appends another origin.

    Attributes:
        recipe: name of the recipe.
        assay: version of assay.
        seed: the recipe's seed.
        threads: intra-op threads of the run; measuring again uses as many.
        task: the task as a recipe writes it, `{name: settings}`.
        model: card of the base model.
        model_digest: SHA-256 of the base model's weights (of no bytes: made from scratch).
        base: the recipe's `model:`, dumped (needed to train again for resampling audits).
        data: card of the data.
        data_digest: digest of the data as `Dataset.digest` gives it.
        data_config: the recipe's `data:`, dumped; `verify` opens the data with it.
        reads: what building the model read of the data, before the first stage.
        charged: private events of building the model.
        receipt: what the ledger of the data's owner granted to this run, where it has one.
        data_base: folder that relative paths in `data_config` start from, itself relative to the
            folder in which the run was started (or absolute).
    """

    recipe: str
    assay: str
    seed: int = 0
    threads: int = Field(default=1, ge=1)
    task: dict[str, Any]
    model: ModelCard
    model_digest: Digest = NOTHING
    base: dict[str, Any] = Field(default_factory=dict)
    data: DataCard
    data_digest: str
    data_config: dict[str, Any]
    data_base: str = "."
    reads: tuple[Read, ...] = ()
    charged: tuple[dict[str, Any], ...] = ()
    receipt: dict[str, Any] = Field(default_factory=dict)


class StageRecord(Config):
    """That a stage ran, and what it did.

    Attributes:
        index: position of the stage in its recipe, from 0.
        name: the registered name of the stage.
        config: its settings, dumped: a mapping, or the list that stands for one in a recipe.
        effects: what it declared: what it adds, keeps and reads.
        used: what was really used (tuned precision, steps taken, noise, ...).
        subject: SHA-256 of the weights file after it.
    """

    index: int = Field(ge=0)
    name: str
    config: dict[str, Any] | list[Any] = Field(default_factory=dict)
    effects: Effects = Effects()
    used: dict[str, Any] = Field(default_factory=dict)
    subject: Digest


class ClaimRecord(Config):
    """A claim, and the stage (position in its recipe) that made it."""

    stage: int = Field(ge=0)
    claim: Claim


class Record(Config):
    """One entry of a passport: exactly one of `origin`, `stage` and `claim`, named by `type`."""

    type: Literal["origin", "stage", "claim"]
    origin: Origin | None = None
    stage: StageRecord | None = None
    claim: ClaimRecord | None = None

    @model_validator(mode="after")
    def _one(self) -> Record:
        given = [n for n in ("origin", "stage", "claim") if getattr(self, n) is not None]
        if given != [self.type]:
            raise ValueError(f"a record of type {self.type} holds {self.type} alone, not {given}")
        return self

    @classmethod
    def of(cls, content: Origin | StageRecord | ClaimRecord) -> Record:
        """The record of an origin, a stage or a claim."""
        if isinstance(content, Origin):
            return cls(type="origin", origin=content)
        if isinstance(content, StageRecord):
            return cls(type="stage", stage=content)
        return cls(type="claim", claim=content)

    def plain(self) -> dict[str, Any]:
        """Plain data: `type` and the entry of that name."""
        return {"type": self.type, self.type: dump(getattr(self, self.type))}


def misfit(records: tuple[Record, ...], record: Record) -> str | None:
    """Why a record cannot follow these, or None.

    The first record is an origin; the stages of an origin count up from 0 and each is followed by
    its own claims.
    """
    if record.origin is not None:
        return None
    if not records:
        return "the first record must be an origin"
    last = next((r for r in reversed(records) if r.claim is None), None)
    before = last.stage.index if last is not None and last.stage is not None else None
    if record.claim is not None:
        if before is None:
            return "a claim must follow the stage that made it"
        if record.claim.stage != before:
            return f"a claim of stage {record.claim.stage} follows stage {before}"
    if record.stage is not None:
        expected = 0 if before is None else before + 1
        if record.stage.index != expected:
            return f"stage {record.stage.index} stands where stage {expected} was expected"
    return None


def subject_of(records: tuple[Record, ...], record: Record) -> str:
    """Digest of the weights that a record speaks of, given those before it."""
    for one in (record, *reversed(records)):
        if one.stage is not None:
            return one.stage.subject
        if one.origin is not None:
            return one.origin.model_digest
    return NOTHING


def statement(record: Record, index: int, previous: str, subject: str) -> bytes:
    """The in-toto Statement of a record, as canonical JSON.

    Args:
        record: what it states.
        index: position in the passport.
        previous: SHA-256 of the line before.
        subject: SHA-256 of the weights it speaks of.
    """
    return canonical_json(
        {
            "_type": STATEMENT,
            "subject": [{"name": WEIGHTS, "digest": {"sha256": subject}}],
            "predicateType": PREDICATE,
            "predicate": {**record.plain(), "index": index, "previous": previous},
        }
    )


def parse_canonical(data: bytes, where: str) -> Any:
    """Parse JSON that must stand in its one canonical form.

    Raises:
        ArtefactError: it is not JSON, or the same content was written in another form.
    """
    value = parse_json(data, where)
    try:
        same = canonical_json(value) == data
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise ArtefactError("not in canonical form", where=where, mend=MEND)
    return value


def _says_the_same(given: Any, kept: Any) -> bool:
    """Whether everything in `given` stands unchanged in `kept` (which may hold defaults too)."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return all(k in kept and _says_the_same(v, kept[k]) for k, v in given.items())
    if isinstance(given, list) and isinstance(kept, list):
        return len(given) == len(kept) and all(map(_says_the_same, given, kept))
    if type(given) is int and type(kept) is float:
        return given == kept
    return type(given) is type(kept) and bool(given == kept)


def _record(content: dict[str, Any], where: str) -> Record:
    mend = "it may come from another version of assay; else " + MEND
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        text = f"not a record: {place + ': ' if place else ''}{first['msg']}"
        raise ArtefactError(text, where=where, mend=mend) from None
    if not _says_the_same(content, record.plain()):
        # pydantic reads "0.9" as 0.9 and true as 1; a passport must mean what it says
        raise ArtefactError("not a record: a value of the wrong type", where=where, mend=mend)
    return record


def parse_statement(
    data: bytes, index: int, previous: str, before: tuple[Record, ...], where: str
) -> Record:
    """Read one statement strictly.

    Args:
        data: the statement's bytes.
        index: the position it must have.
        previous: the SHA-256 of the line before, which it must name.
        before: the records before it.
        where: file and line, for messages.

    Raises:
        ArtefactError: anything about it is not as `statement` would have written it.
    """
    value = parse_canonical(data, where)
    keys = {"_type", "subject", "predicateType", "predicate"}
    if not isinstance(value, dict) or set(value) != keys or value["_type"] != STATEMENT:
        raise ArtefactError("not an in-toto Statement v1", where=where, mend=MEND)
    predicate = value["predicate"]
    if value["predicateType"] != PREDICATE or not isinstance(predicate, dict):
        raise ArtefactError(
            f"expected a statement of type {PREDICATE}, got {value['predicateType']!r}",
            where=where,
            mend="it may come from another version of assay",
        )
    content = dict(predicate)
    stands, names = content.pop("index", None), content.pop("previous", None)
    if type(stands) is not int or stands != index:
        raise ArtefactError(
            f"it says it is number {stands!r}, but stands as number {index}: lines were dropped, "
            "added or moved",
            where=where,
            mend=MEND,
        )
    if names != previous:
        raise ArtefactError(
            "the chain is broken: it does not continue the line before it"
            if index
            else "the chain is broken: the first line must follow nothing",
            where=where,
            mend=MEND,
        )
    record = _record(content, where)
    problem = misfit(before, record)
    if problem is not None:
        raise ArtefactError(f"not in order: {problem}", where=where, mend=MEND)
    expected = [{"name": WEIGHTS, "digest": {"sha256": subject_of(before, record)}}]
    if value["subject"] != expected:
        raise ArtefactError(
            "its subject is not the weights that its stage left", where=where, mend=MEND
        )
    return record
