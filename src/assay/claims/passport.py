"""The passport: the append-only list of records that travels with a model.

`claims.jsonl` holds one in-toto Statement v1 a line, in canonical JSON; each names the SHA-256 of
the line before it (64 zeros for the first) and its own position. `head.json` holds the number of
lines, the SHA-256 of the last one, and the SHA-256 of every other file of the folder, so that a
dropped last line, a changed weight and an added file all show. Neither holds a time: two equal
runs write equal bytes.

**Signing.** With a key every new line is a DSSE envelope around its statement, and the head is one
too. Lines that were read from disk are written again byte for byte, whoever signed them or did
not: a line is never re-signed, for that would change its hash and break the lines after it. The
signature on the head covers the hash of the last line and, through the chain, every line: the
holder of that key vouches for the whole passport, inherited lines included; the signature on a
line says who added that line (`Passport.signers`). So

| the head is | `read` without a trusted key | `read` with one |
| --- | --- | --- |
| signed by the trusted key | consistent, not authenticated | authenticated |
| signed by another key, or not signed | consistent, not authenticated | refused (exit 7) |

A signed passport that is appended to without the key gets an unsigned head, and is thereby no
longer authenticated. Whoever writes with a key should have verified what the passport inherited.

**Without a key** nothing stops a forger from rewriting the whole chain and its head. That is why
such an artefact is only "consistent", and why `verify` measures every claim again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.claims.claim import Claim
from assay.claims.records import (
    MEND,
    START,
    WEIGHTS,
    ClaimRecord,
    Origin,
    Record,
    StageRecord,
    misfit,
    parse_canonical,
    parse_statement,
    statement,
    subject_of,
)
from assay.claims.replay import CurrentClaim, PlacedStage, replay, stages
from assay.claims.signing import Opened, PublicKey, Signer, is_envelope, open_envelope
from assay.errors import ArtefactError
from assay.files import canonical_json, file_digest, sha256, write_bytes

__all__ = ["ClaimRecord", "Origin", "Passport", "Record", "StageRecord"]

LINES = "claims.jsonl"
HEAD = "head.json"
LINE_TYPE = "application/vnd.in-toto+json"
HEAD_TYPE = "application/vnd.assay.head+json"
NOT_AUTHENTICATED = "consistent, not authenticated"


@dataclass(frozen=True)
class Passport:
    """The records of a model, immutable.

    Attributes:
        records: all records, oldest first.
        lines: the bytes (without the line end) of the records that were read from or written to
            disk: a prefix of `records`; the rest have none yet.
        signers: keyid of the key that signed each of `lines`, None for an unsigned one. Only
            those of the trusted key were checked.
    """

    records: tuple[Record, ...] = ()
    lines: tuple[bytes, ...] = ()
    signers: tuple[str | None, ...] = ()

    def append(self, *records: Record | Origin | StageRecord | ClaimRecord) -> Passport:
        """A passport with more records.

        Raises:
            ValueError: a record cannot stand there (see `records.misfit`), or holds what JSON
                cannot hold (NaN, an array).
        """
        have = self.records
        for one in records:
            record = one if isinstance(one, Record) else Record.of(one)
            problem = misfit(have, record)
            if problem is not None:
                raise ValueError(f"cannot append to the passport: {problem}")
            try:
                canonical_json(record.plain())
            except (TypeError, ValueError) as error:
                raise ValueError(f"cannot append to the passport: {error}") from error
            have = (*have, record)
        return Passport(have, self.lines, self.signers)

    def with_stage(self, stage: StageRecord, claims: Iterable[Claim] = ()) -> Passport:
        """A passport with one more stage and the claims it made."""
        made = [ClaimRecord(stage=stage.index, claim=claim) for claim in claims]
        return self.append(stage, *made)

    @property
    def origin(self) -> Origin | None:
        """How the last run began; None for an empty passport."""
        found = [r.origin for r in self.records if r.origin is not None]
        return found[-1] if found else None

    def stages(self) -> list[PlacedStage]:
        """All stages in order, with their numbers and claims; see `replay`."""
        return stages(self.records)

    def claims_of(self, stage: int) -> list[Claim]:
        """What the stage of that number claimed (negative: an inherited stage)."""
        return [c for placed in self.stages() if placed.number == stage for c in placed.claims]

    def replay(self) -> list[CurrentClaim]:
        """The newest claim of each identity, and whether and by whom it was voided."""
        return replay(self.records)

    def current(self) -> list[tuple[Claim, int, bool]]:
        """(claim, number of its stage, whether it is still carried): `replay` as tuples."""
        return [(one.claim, one.stage, one.carried) for one in self.replay()]

    def write(
        self, folder: Path, files: Iterable[str] | None = None, signer: Signer | None = None
    ) -> Passport:
        """Write `claims.jsonl` and then `head.json` into a model folder; all else stands there.

        Args:
            folder: the model folder.
            files: names of its other files; by default all that are there.
            signer: signs the new lines and the head.

        Returns:
            This passport, with the bytes of all lines.

        Raises:
            ArtefactError: a named file is missing, another one lies there, or the weights are
                not those of the last stage record.
            LoadError: the folder cannot be written.
        """
        digests = _digests(folder)
        if files is not None:
            _same_files(set(files) | {LINES}, set(digests) | {LINES}, folder, "named")
        _last_subject(self.records, digests, folder)
        written = self._rendered(signer)
        data = b"".join(line + b"\n" for line in written.lines)
        digests[LINES] = sha256(data)
        last = sha256(written.lines[-1]) if written.lines else START
        head = canonical_json({"count": len(written.lines), "last": last, "files": digests})
        write_bytes(folder / LINES, data)
        if signer is not None:
            head = signer.envelope(HEAD_TYPE, head)
        write_bytes(folder / HEAD, head + b"\n")
        return written

    def _rendered(self, signer: Signer | None) -> Passport:
        lines, signers = list(self.lines), list(self.signers)
        for index in range(len(lines), len(self.records)):
            record = self.records[index]
            previous = sha256(lines[-1]) if lines else START
            subject = subject_of(self.records[:index], record)
            line = statement(record, index, previous, subject)
            if signer is not None:
                line = signer.envelope(LINE_TYPE, line)
            lines.append(line)
            signers.append(signer.keyid if signer is not None else None)
        return Passport(self.records, tuple(lines), tuple(signers))

    @classmethod
    def read(cls, folder: Path, trust: PublicKey | None = None) -> tuple[Passport, bool]:
        """Read and check the passport of a model folder, and the digest of every file there.

        Args:
            folder: the model folder.
            trust: the key that must have signed the head.

        Returns:
            The passport, and whether it is authenticated: always true with `trust`, never
            without.

        Raises:
            ArtefactError: a digest, the chain, the head or a signature does not match, a file is
                missing or one too many; says which line or file.
        """
        head = _read_head(folder, trust)
        passport = _read_lines(folder, trust)
        if head["count"] != len(passport.lines):
            raise ArtefactError(
                f"{HEAD} counts {head['count']} lines, there are {len(passport.lines)}: "
                "lines were dropped or added",
                where=str(folder / LINES),
                mend=MEND,
            )
        last = sha256(passport.lines[-1]) if passport.lines else START
        if head["last"] != last:
            raise ArtefactError(
                f"line {len(passport.lines)} is not the last line that {HEAD} names",
                where=str(folder / LINES),
                mend=MEND,
            )
        digests = _digests(folder)
        _same_files(set(head["files"]), set(digests) | {LINES}, folder, f"named by {HEAD}")
        digests[LINES] = _digest(folder / LINES)
        for name, digest in sorted(digests.items()):
            if head["files"][name] != digest:
                raise ArtefactError(
                    f"its content is not what {HEAD} names: it was changed or damaged",
                    where=str(folder / name),
                    mend=MEND,
                )
        _last_subject(passport.records, digests, folder)
        return passport, trust is not None


def _digest(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ArtefactError("not a regular file", where=str(path), mend="remove it")
        return file_digest(path)
    except OSError as error:
        raise ArtefactError(
            f"cannot read: {error.strerror or error}", where=str(path), mend=MEND
        ) from None


def _digests(folder: Path) -> dict[str, str]:
    """Name (relative, with `/`) -> SHA-256 of every file but the passport's own two."""
    found: dict[str, str] = {}
    for base, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(base) / name
            relative = path.relative_to(folder).as_posix()
            if relative not in (LINES, HEAD):
                found[relative] = _digest(path)
    return dict(sorted(found.items()))


def _same_files(named: set[str], there: set[str], folder: Path, by: str) -> None:
    for name in sorted(named - there):
        raise ArtefactError(f"the file {name!r} is missing", where=str(folder), mend=MEND)
    for name in sorted(there - named):
        raise ArtefactError(f"the file {name!r} is not {by}", where=str(folder), mend="remove it")


def _last_subject(records: tuple[Record, ...], digests: dict[str, str], folder: Path) -> None:
    """The weights must be those that the last stage left."""
    left = [r.stage.subject for r in records if r.stage is not None]
    if left and digests.get(WEIGHTS) != left[-1]:
        raise ArtefactError(
            "the weights are not those that the last stage in the passport left",
            where=str(folder / WEIGHTS),
            mend=MEND,
        )


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ArtefactError("not a regular file", where=str(path), mend=MEND)
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtefactError(
            f"no {path.name}: not the folder of an assay model, or damaged",
            where=str(path.parent),
            mend="name a model folder, or restore the file",
        ) from None
    except OSError as error:
        raise ArtefactError(
            f"cannot read: {error.strerror or error}", where=str(path), mend=MEND
        ) from None


def _lines_of(path: Path) -> list[bytes]:
    """The lines of a file, each of which must end in exactly one line end."""
    data = _content(path)
    if not data:
        return []
    if not data.endswith(b"\n"):
        raise ArtefactError("cut off: the last line has no line end", where=str(path), mend=MEND)
    lines = data[:-1].split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            raise ArtefactError("an empty line", where=f"{path} line {number}", mend=MEND)
    return lines


def _authentic(opened: Opened | None, trust: PublicKey, where: str) -> None:
    """Refuse what the trusted key did not sign."""
    mend = "get the artefact or the public key from its source again"
    if opened is None:
        what = "it is not signed"
    elif opened.keyid != trust.keyid:
        what = f"signed by key {opened.keyid[:16]}, the trusted key is {trust.keyid[:16]}"
    elif not opened.verified_by(trust):
        what = "the signature does not match"
    else:
        return
    raise ArtefactError(f"not authenticated: {what}", where=where, mend=mend)


def _read_head(folder: Path, trust: PublicKey | None) -> dict[str, Any]:
    path = folder / HEAD
    lines = _lines_of(path)
    if len(lines) != 1:
        raise ArtefactError(f"expected one line, got {len(lines)}", where=str(path), mend=MEND)
    value, opened = parse_canonical(lines[0], str(path)), None
    if is_envelope(value):
        opened = open_envelope(value, HEAD_TYPE, str(path))
        value = parse_canonical(opened.payload, str(path))
    if trust is not None:
        _authentic(opened, trust, str(path))
    if (
        not isinstance(value, dict)
        or set(value) != {"count", "last", "files"}
        or type(value["count"]) is not int
        or not isinstance(value["last"], str)
        or not isinstance(value["files"], dict)
    ):
        raise ArtefactError("not the head of a passport", where=str(path), mend=MEND)
    return value


def _read_lines(folder: Path, trust: PublicKey | None) -> Passport:
    path = folder / LINES
    records: list[Record] = []
    signers: list[str | None] = []
    previous, lines = START, _lines_of(path)
    for index, line in enumerate(lines):
        where = f"{path} line {index + 1}"
        value, body, keyid = parse_canonical(line, where), line, None
        if is_envelope(value):
            opened = open_envelope(value, LINE_TYPE, where)
            body, keyid = opened.payload, opened.keyid
            if trust is not None and keyid == trust.keyid:
                _authentic(opened, trust, where)
        records.append(parse_statement(body, index, previous, tuple(records), where))
        signers.append(keyid)
        previous = sha256(line)
    return Passport(tuple(records), tuple(lines), tuple(signers))
