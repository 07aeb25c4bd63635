from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.claims import Claim, Effects
from assay.claims.passport import HEAD, HEAD_TYPE, LINE_TYPE, LINES, Origin, Passport, StageRecord
from assay.claims.records import START
from assay.claims.signing import Signer
from assay.errors import ArtefactError, LoadError
from assay.files import canonical_json, file_digest, sha256

Build = Callable[..., Path]


def lines_of(folder: Path) -> list[bytes]:
    return (folder / LINES).read_bytes().splitlines()


def put_lines(folder: Path, lines: list[bytes]) -> None:
    (folder / LINES).write_bytes(b"".join(line + b"\n" for line in lines))


def head_of(folder: Path) -> dict[str, object]:
    head = json.loads((folder / HEAD).read_bytes())
    if "payload" in head:
        head = json.loads(b64decode(head["payload"]))
    assert isinstance(head, dict)
    return head


def rebuild_head(folder: Path, signer: Signer | None = None) -> None:
    """What a forger without the chain in mind does: make the head fit what lies there."""
    lines = lines_of(folder)
    files = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != HEAD
    }
    last = sha256(lines[-1]) if lines else START
    head = canonical_json({"count": len(lines), "last": last, "files": files})
    if signer is not None:
        head = signer.envelope(HEAD_TYPE, head)
    (folder / HEAD).write_bytes(head + b"\n")


def rechain(folder: Path, change: Callable[[list[dict[str, object]]], None]) -> None:
    """What a careful forger does: change the statements and rebuild chain and head."""
    statements = []
    for line in lines_of(folder):
        value = json.loads(line)
        statements.append(json.loads(b64decode(value["payload"])) if "payload" in value else value)
    change(statements)
    lines: list[bytes] = []
    for index, statement in enumerate(statements):
        previous = sha256(lines[-1]) if lines else START
        statement["predicate"] |= {"index": index, "previous": previous}
        lines.append(canonical_json(statement))
    put_lines(folder, lines)
    rebuild_head(folder)


def forge_claim(statements: list[dict[str, object]]) -> None:
    forged = json.loads(json.dumps(statements[-1]))
    forged["predicate"]["claim"]["claim"] |= {"kind": "quality.auroc", "value": 0.999}
    statements.append(forged)


# --- writing ---


@pytest.mark.parametrize("signed", [False, True])
def test_it_round_trips(build_folder: Build, tmp_path: Path, signer: Signer, signed: bool) -> None:
    folder = build_folder(tmp_path / "model", signer if signed else None)
    passport, authenticated = Passport.read(folder, signer.public if signed else None)
    assert authenticated is signed
    assert passport.records == Passport.read(folder)[0].records
    assert passport.signers == ((signer.keyid if signed else None),) * 7
    assert [c.claim.kind for c in passport.replay()] == [
        "quality.accuracy",
        "quality.macro_f1",
        "agreement.top1",
    ]


def test_records_read_are_those_written(
    build_folder: Build, tmp_path: Path, passport: Passport
) -> None:
    assert Passport.read(build_folder(tmp_path / "model"))[0].records == passport.records


def test_a_line_is_an_in_toto_statement(build_folder: Build, tmp_path: Path) -> None:
    lines = lines_of(build_folder(tmp_path / "model"))
    assert len(lines) == 7
    previous = "0" * 64
    for index, line in enumerate(lines):
        statement = json.loads(line)
        assert set(statement) == {"_type", "subject", "predicateType", "predicate"}
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"] == "urn:assay:record:v1"
        assert [s["name"] for s in statement["subject"]] == ["model.safetensors"]
        assert statement["predicate"]["index"] == index
        assert statement["predicate"]["previous"] == previous
        assert canonical_json(statement) == line
        previous = sha256(line)
    digests = [json.loads(line)["subject"][0]["digest"]["sha256"] for line in lines]
    trained, final = sha256(b"weights after stage 0"), sha256(b"weights after stage 2")
    assert digests == [sha256(b"base weights"), *[trained] * 4, final, final]


def test_the_head_names_everything(build_folder: Build, tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "model")
    assert (folder / HEAD).read_bytes() == canonical_json(head_of(folder)) + b"\n"
    assert head_of(folder) == {
        "count": 7,
        "last": sha256(lines_of(folder)[-1]),
        "files": {
            name: file_digest(folder / name)
            for name in (LINES, "config.json", "model.safetensors", "parts/vocabulary.txt")
        },
    }


def test_signed_lines_and_head_are_envelopes(
    build_folder: Build, tmp_path: Path, signer: Signer
) -> None:
    folder = build_folder(tmp_path / "model", signer)
    for line in lines_of(folder):
        assert json.loads(line)["payloadType"] == LINE_TYPE == "application/vnd.in-toto+json"
    head = json.loads((folder / HEAD).read_bytes())
    assert head["payloadType"] == HEAD_TYPE == "application/vnd.assay.head+json"


@pytest.mark.parametrize("signed", [False, True])
def test_two_equal_runs_write_equal_bytes(
    build_folder: Build, tmp_path: Path, signer: Signer, signed: bool
) -> None:
    one, two = (build_folder(tmp_path / n, signer if signed else None) for n in ("one", "two"))
    for name in (LINES, HEAD):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_writing_again_changes_nothing(build_folder: Build, tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "model")
    before = [(folder / name).read_bytes() for name in (LINES, HEAD)]
    passport, _ = Passport.read(folder)
    assert passport.write(folder) == passport
    assert [(folder / name).read_bytes() for name in (LINES, HEAD)] == before


def test_write_takes_the_files_by_name(
    build_folder: Build, tmp_path: Path, passport: Passport
) -> None:
    folder = build_folder(tmp_path / "model")
    names = ["config.json", "model.safetensors", "parts/vocabulary.txt"]
    passport.write(folder, names)
    Passport.read(folder)
    with pytest.raises(ArtefactError, match=r"'model\.onnx' is missing"):
        passport.write(folder, [*names, "model.onnx"])
    with pytest.raises(ArtefactError, match=r"'parts/vocabulary\.txt' is not named"):
        passport.write(folder, names[:2])


def test_write_refuses_weights_that_no_stage_left(
    build_folder: Build, tmp_path: Path, passport: Passport
) -> None:
    folder = build_folder(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ArtefactError, match="not those that the last stage"):
        passport.write(folder)


def test_write_into_a_folder_that_is_not_there(tmp_path: Path, passport: Passport) -> None:
    with pytest.raises(ArtefactError, match="weights"):
        passport.write(tmp_path / "nowhere")
    with pytest.raises(LoadError, match="cannot write"):
        Passport().write(tmp_path / "nowhere")


def test_an_empty_passport(tmp_path: Path) -> None:
    Passport().write(tmp_path)
    assert (tmp_path / LINES).read_bytes() == b""
    assert head_of(tmp_path) == {"count": 0, "last": START, "files": {LINES: sha256(b"")}}
    assert Passport.read(tmp_path) == (Passport(), False)


def test_an_origin_alone_says_nothing_of_the_weights(tmp_path: Path, origin: Origin) -> None:
    Passport().append(origin).write(tmp_path)
    assert Passport.read(tmp_path)[0].origin == origin


# --- going on with a passport that was read ---


def extend(
    folder: Path, origin: Origin, claim: Claim, signer: Signer | None, trust: Signer | None = None
) -> None:
    passport, _ = Passport.read(folder, trust.public if trust else None)
    (folder / "model.safetensors").write_bytes(b"tuned")
    stage = StageRecord(
        index=0, name="audit", effects=Effects(keeps=("*",)), subject=sha256(b"tuned")
    )
    passport.append(origin).with_stage(stage, [claim]).write(folder, signer=signer)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_lines_that_were_read_are_written_byte_for_byte(
    build_folder: Build,
    tmp_path: Path,
    signer: Signer,
    stranger: Signer,
    origin: Origin,
    claim: Callable[..., Claim],
    before: bool,
    after: bool,
) -> None:
    folder = build_folder(tmp_path / "model", stranger if before else None)
    old = lines_of(folder)
    extend(folder, origin, claim(), signer if after else None)
    assert lines_of(folder)[:7] == old
    passport, _ = Passport.read(folder)
    theirs, ours = (stranger.keyid if before else None), (signer.keyid if after else None)
    assert passport.signers == (theirs,) * 7 + (ours,) * 3
    if after:  # the head's signature reaches back through the chain
        assert Passport.read(folder, signer.public)[1]
    else:
        with pytest.raises(ArtefactError, match="not authenticated"):
            Passport.read(folder, signer.public)
    with pytest.raises(ArtefactError, match="not authenticated"):
        Passport.read(folder, stranger.public)


def test_appending_without_the_key_ends_authentication(
    build_folder: Build,
    tmp_path: Path,
    signer: Signer,
    origin: Origin,
    claim: Callable[..., Claim],
) -> None:
    folder = build_folder(tmp_path / "model", signer)
    extend(folder, origin, claim(), None, trust=signer)
    assert Passport.read(folder)[1] is False
    with pytest.raises(ArtefactError, match="not authenticated: it is not signed"):
        Passport.read(folder, signer.public)


# --- tampering, without rebuilding anything ---


def flip(path: Path, position: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def edit_value(folder: Path) -> None:
    lines = lines_of(folder)
    lines[3] = lines[3].replace(b"0.845", b"0.945")
    put_lines(folder, lines)


def drop(index: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = lines_of(folder)
        del lines[index]
        put_lines(folder, lines)

    return change


def swap(one: int, two: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = lines_of(folder)
        lines[one], lines[two] = lines[two], lines[one]
        put_lines(folder, lines)

    return change


def duplicate(index: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = lines_of(folder)
        lines.insert(index, lines[index])
        put_lines(folder, lines)

    return change


def add_file(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"x")


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def text(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def link(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent, target_is_directory=True)


def swap_for_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()


WHOLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights": (lambda f: flip(f / "model.safetensors"), "model.safetensors: its content"),
    "config": (lambda f: flip(f / "config.json"), "config.json: its content"),
    "part in a folder": (lambda f: flip(f / "parts/vocabulary.txt"), "vocabulary.txt: its content"),
    "drop the first line": (drop(0), "line 1: .*number 1, but stands as number 0"),
    "drop a line": (drop(3), "line 4: .*number 4, but stands as number 3"),
    "drop the last line": (drop(-1), "head.json counts 7 lines, there are 6"),
    "drop all lines": (text(LINES, lambda data: b""), "head.json counts 7 lines, there are 0"),
    "swap two lines": (swap(3, 4), "line 4: .*number 4, but stands as number 3"),
    "duplicate a line": (duplicate(4), "line 6: .*number 4, but stands as number 5"),
    "duplicate the last line": (duplicate(6), "line 8: .*number 6, but stands as number 7"),
    "no final newline": (text(LINES, lambda d: d[:-1]), "cut off"),
    "two final newlines": (text(LINES, lambda d: d + b"\n"), "line 8: an empty line"),
    "leading newline": (text(LINES, lambda d: b"\n" + d), "line 1: an empty line"),
    "truncated": (text(LINES, lambda d: d[:500]), "cut off"),
    "carriage returns": (text(LINES, lambda d: d.replace(b"\n", b"\r\n")), "canonical"),
    "spaces": (text(LINES, lambda d: d.replace(b'":', b'": ', 1)), "line 1: not in canonical"),
    "byte order mark": (text(LINES, lambda d: b"\xef\xbb\xbf" + d), "line 1"),
    "no lines": (remove(LINES), "no claims.jsonl"),
    "no head": (remove(HEAD), "no head.json"),
    "no weights": (remove("model.safetensors"), "'model.safetensors' is missing"),
    "an unknown file": (add_file("extra.bin"), "'extra.bin' is not named by head.json"),
    "a hidden file": (add_file("parts/.hidden"), "'parts/.hidden' is not named by head.json"),
    "a linked folder": (link, "more: not a regular file"),
    "a folder for a file": (swap_for_folder, "'config.json' is missing"),
    "a pipe": (lambda f: os.mkfifo(f / "pipe"), "pipe: not a regular file"),
    "empty head": (text(HEAD, lambda d: b""), "head.json: expected one line, got 0"),
    "two heads": (text(HEAD, lambda d: d + d), "head.json: expected one line, got 2"),
    "head cut": (text(HEAD, lambda d: d[:-1]), "head.json: cut off"),
    "head spaced": (text(HEAD, lambda d: b" " + d), "head.json: not in canonical form"),
    "head is no head": (
        text(HEAD, lambda d: b"[]\n"),
        "not the head of a passport|it is not signed",
    ),
}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_tampering_is_caught_and_located(
    build_folder: Build, tmp_path: Path, signer: Signer, signed: bool, name: str
) -> None:
    folder = build_folder(tmp_path / "model", signer if signed else None)
    change, message = WHOLE[name]
    change(folder)
    with pytest.raises(ArtefactError, match=message) as caught:
        Passport.read(folder, signer.public if signed else None)
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)


def test_an_edited_claim_shows_at_the_line_after_it(build_folder: Build, tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "model")
    edit_value(folder)
    with pytest.raises(ArtefactError, match="line 5: the chain is broken"):
        Passport.read(folder)


def test_an_edited_last_line_shows_at_the_head(build_folder: Build, tmp_path: Path) -> None:
    folder = build_folder(tmp_path / "model")
    lines = lines_of(folder)
    lines[-1] = lines[-1].replace(b"agreement.top1", b"agreement.top2")
    put_lines(folder, lines)
    with pytest.raises(ArtefactError, match=r"line 7 is not the last line that head\.json"):
        Passport.read(folder)


def edit_head(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        head = head_of(folder) | changes
        (folder / HEAD).write_bytes(canonical_json(head) + b"\n")

    return change


def edit_files(**changes: str | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        head = head_of(folder)
        files = head["files"]
        assert isinstance(files, dict)
        for name, digest in changes.items():
            files[name.replace("_", ".")] = digest
            if digest is None:
                del files[name.replace("_", ".")]
        (folder / HEAD).write_bytes(canonical_json(head) + b"\n")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_head(count=6), "head.json counts 6 lines, there are 7"),
        (edit_head(count=True), "not the head"),
        (edit_head(count="7"), "not the head"),
        (edit_head(last=START), "line 7 is not the last line"),
        (edit_head(files=[]), "not the head"),
        (edit_head(more=1), "not the head"),
        (edit_files(config_json="0" * 64), "config.json: its content"),
        (edit_files(claims_jsonl="0" * 64), "claims.jsonl: its content"),
        (edit_files(claims_jsonl=None), "'claims.jsonl' is not named"),
        (edit_files(model_safetensors=None), "'model.safetensors' is not named"),
        (edit_files(model_onnx="0" * 64), "'model.onnx' is missing"),
        (edit_files(head_json="0" * 64), "'head.json' is missing"),
    ],
)
def test_an_edited_head_is_caught(
    build_folder: Build, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = build_folder(tmp_path / "model")
    change(folder)
    with pytest.raises(ArtefactError, match=message):
        Passport.read(folder)


# --- tampering with the head rebuilt: the chain still tells ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_value, "line 5: the chain is broken"),
        (drop(0), "line 1"),
        (drop(3), "line 4"),
        (swap(3, 4), "line 4"),
        (duplicate(4), "line 6"),
        (lambda f: flip(f / "model.safetensors"), "not those that the last stage"),
    ],
)
def test_a_rebuilt_head_does_not_mend_the_chain(
    build_folder: Build, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    folder = build_folder(tmp_path / "model")
    change(folder)
    rebuild_head(folder)
    with pytest.raises(ArtefactError, match=message):
        Passport.read(folder)


def test_an_unsigned_chain_can_be_rebuilt_whole_and_so_is_never_authenticated(
    build_folder: Build, tmp_path: Path
) -> None:
    folder = build_folder(tmp_path / "model")
    rechain(folder, forge_claim)
    passport, authenticated = Passport.read(folder)
    assert passport.claims_of(2)[-1].value == 0.999  # `assay.verify` measures it and finds it wrong
    assert authenticated is False


# --- tampering with a signed artefact ---


def resign(folder: Path, stranger: Signer) -> None:
    rechain(folder, forge_claim)
    rebuild_head(folder, stranger)


def old_head(folder: Path, stranger: Signer) -> None:
    head = (folder / HEAD).read_bytes()
    rechain(folder, forge_claim)
    (folder / HEAD).write_bytes(head)


def old_signature(folder: Path, stranger: Signer) -> None:
    theirs = json.loads((folder / HEAD).read_bytes())
    rechain(folder, forge_claim)
    rebuild_head(folder, stranger)
    forged = json.loads((folder / HEAD).read_bytes())
    forged["signatures"] = theirs["signatures"]
    (folder / HEAD).write_bytes(canonical_json(forged) + b"\n")


def a_line_for_a_head(folder: Path, stranger: Signer) -> None:
    (folder / HEAD).write_bytes(lines_of(folder)[-1] + b"\n")


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda folder, _: rechain(folder, forge_claim), "not authenticated: it is not signed"),
        (resign, "not authenticated: signed by key"),
        (old_head, "head.json counts 7 lines, there are 8"),
        (old_signature, "not authenticated: the signature does not match"),
        (a_line_for_a_head, "expected an envelope of application/vnd.assay.head"),
    ],
)
def test_a_forger_without_the_key_is_caught(
    build_folder: Build,
    tmp_path: Path,
    signer: Signer,
    stranger: Signer,
    forge: Callable[[Path, Signer], None],
    message: str,
) -> None:
    folder = build_folder(tmp_path / "model", signer)
    forge(folder, stranger)
    with pytest.raises(ArtefactError, match=message) as caught:
        Passport.read(folder, signer.public)
    assert caught.value.exit_code == 7


def test_a_line_with_a_spoilt_signature_is_caught_under_a_good_head(
    build_folder: Build, tmp_path: Path, signer: Signer
) -> None:
    folder = build_folder(tmp_path / "model", signer)
    lines = lines_of(folder)
    last = json.loads(lines[-1])
    last["signatures"][0]["sig"] = json.loads(lines[0])["signatures"][0]["sig"]
    put_lines(folder, [*lines[:-1], canonical_json(last)])
    rebuild_head(folder, signer)
    with pytest.raises(ArtefactError, match="line 7: not authenticated: the signature"):
        Passport.read(folder, signer.public)


# --- any single byte ---


@pytest.fixture(scope="module", params=["unsigned", "signed", "trusted"])
def target(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    signer: Signer,
    session_passport: Passport,
) -> tuple[Path, Signer | None]:
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").write_bytes(b"weights after stage 2")
    session_passport.write(folder, signer=None if request.param == "unsigned" else signer)
    return folder, signer if request.param == "trusted" else None


@pytest.mark.parametrize("name", [LINES, HEAD])
@given(data=st.data())
@settings(max_examples=150)
def test_any_changed_byte_is_caught(
    target: tuple[Path, Signer | None], name: str, data: st.DataObject
) -> None:
    folder, trust = target
    whole = (folder / name).read_bytes()
    key = trust.public if trust is not None else None
    said = Passport.read(folder, key)[0].records
    position = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[position]))
    try:
        (folder / name).write_bytes(whole[:position] + bytes([other]) + whole[position + 1 :])
        try:
            passport, _ = Passport.read(folder, key)
        except ArtefactError:
            return
        # without a trusted key nobody can tell that the head's signature was damaged
        assert name == HEAD
        assert trust is None
        assert passport.records == said
    finally:
        (folder / name).write_bytes(whole)
