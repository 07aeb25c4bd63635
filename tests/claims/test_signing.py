from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assay.claims import signing
from assay.claims.signing import Signer, load_private_key, load_public_key, open_envelope, pae
from assay.errors import ArtefactError, UsageError
from assay.files import sha256

KIND = "application/vnd.in-toto+json"
PEM, RAW = serialization.Encoding.PEM, serialization.Encoding.Raw
PKCS8, SSH = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.OpenSSH
OPEN = serialization.NoEncryption()


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(signing.PASSPHRASE, raising=False)


def private() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)


def test_pae_counts_bytes_not_characters() -> None:
    assert pae("t", "é".encode()) == "DSSEv1 1 t 2 é".encode()
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_pae_keeps_type_and_payload_apart() -> None:
    assert pae("a", b"b 1 c") != pae("a b", b"1 c")


def test_keyid_is_the_digest_of_the_raw_public_key(signer: Signer) -> None:
    assert signer.keyid == sha256(private().public_key().public_bytes_raw())
    assert signer.public.keyid == signer.keyid


def test_an_envelope_is_what_dsse_says(signer: Signer) -> None:
    envelope = json.loads(signer.envelope(KIND, b"payload"))
    assert envelope["payloadType"] == KIND
    assert b64decode(envelope["payload"]) == b"payload"
    assert [s["keyid"] for s in envelope["signatures"]] == [signer.keyid]
    signature = b64decode(envelope["signatures"][0]["sig"])
    private().public_key().verify(signature, f"DSSEv1 28 {KIND} 7 payload".encode())


def test_signing_twice_gives_the_same_bytes(signer: Signer) -> None:
    assert signer.envelope(KIND, b"x") == signer.envelope(KIND, b"x")


def test_only_the_signer_verifies(signer: Signer, stranger: Signer) -> None:
    opened = open_envelope(json.loads(signer.envelope(KIND, b"x")), KIND, "here")
    assert opened.verified_by(signer.public)
    assert not opened.verified_by(stranger.public)


@pytest.mark.parametrize("signature", [b"", b"short", b"\0" * 64])
def test_other_signatures_do_not_verify(signer: Signer, signature: bytes) -> None:
    assert not signer.public.verifies(KIND, b"x", signature)


def test_a_signature_is_bound_to_its_type(signer: Signer) -> None:
    opened = open_envelope(json.loads(signer.envelope(KIND, b"x")), KIND, "here")
    assert not signer.public.verifies("application/other", b"x", opened.signature)


def spoil(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda envelope: envelope.update(changes)


GOOD_SIG = b64encode(b"\0" * 64).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil(more=1), "not a DSSE envelope"),
        (spoil(payloadType="text/plain"), "expected an envelope of"),
        (spoil(signatures=[]), "one signature"),
        (spoil(signatures="x"), "one signature"),
        (spoil(signatures=[{}]), "keyid and sig"),
        (spoil(signatures=[{"keyid": 3, "sig": GOOD_SIG}]), "keyid of the signature"),
        (spoil(signatures=[{"keyid": "0" * 64, "sig": "%%%"}]), "base64"),
        (spoil(signatures=[{"keyid": "0" * 64, "sig": None}]), "base64"),
        (spoil(payload="eA"), "base64"),  # no padding
        (spoil(payload="eB=="), "base64"),  # stray bits: decodes like eA==
        (spoil(payload="eA==\n"), "base64"),
    ],
)
def test_other_envelopes_are_refused(
    signer: Signer, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    envelope = json.loads(signer.envelope(KIND, b"x"))
    change(envelope)
    with pytest.raises(ArtefactError, match=message):
        open_envelope(envelope, KIND, "here")


def test_a_signer_never_shows_its_key(signer: Signer) -> None:
    assert repr(signer) == f"Signer(keyid={signer.keyid!r})"


@pytest.mark.parametrize("form", [PKCS8, SSH])
def test_private_keys_load(tmp_path: Path, signer: Signer, form: Any) -> None:
    path = tmp_path / "key"
    path.write_bytes(private().private_bytes(PEM, form, OPEN))
    assert load_private_key(path).keyid == signer.keyid


def test_a_passphrase_that_is_not_needed_does_no_harm(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signing.PASSPHRASE, "secret")
    path = tmp_path / "key"
    path.write_bytes(private().private_bytes(PEM, PKCS8, OPEN))
    assert load_private_key(path).keyid == signer.keyid


def test_an_encrypted_key_takes_its_passphrase_from_the_environment(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    locked = serialization.BestAvailableEncryption(b"secret")
    path.write_bytes(private().private_bytes(PEM, PKCS8, locked))
    with pytest.raises(UsageError, match=r"encrypted; put its passphrase .*ASSAY_KEY_PASSPHRASE"):
        load_private_key(path)
    monkeypatch.setenv(signing.PASSPHRASE, "wrong")
    with pytest.raises(UsageError, match="not its passphrase"):
        load_private_key(path)
    monkeypatch.setenv(signing.PASSPHRASE, "secret")
    assert load_private_key(path).keyid == signer.keyid


PUBLIC = [
    (PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
]


@pytest.mark.parametrize(("encoding", "form"), PUBLIC)
def test_public_keys_load(tmp_path: Path, signer: Signer, encoding: Any, form: Any) -> None:
    path = tmp_path / "key.pub"
    path.write_bytes(private().public_key().public_bytes(encoding, form))
    assert load_public_key(path).keyid == signer.keyid


def test_an_openssh_comment_does_no_harm(tmp_path: Path, signer: Signer) -> None:
    path = tmp_path / "key.pub"
    path.write_bytes(private().public_key().public_bytes(*PUBLIC[1]) + b" someone\n")
    assert load_public_key(path).keyid == signer.keyid


@pytest.mark.parametrize("load", [load_private_key, load_public_key])
def test_what_is_no_key_is_refused(tmp_path: Path, load: Callable[[Path], Any]) -> None:
    path = tmp_path / "key"
    with pytest.raises(UsageError, match="cannot read the key: No such file"):
        load(path)
    with pytest.raises(UsageError, match="cannot read the key: Is a directory"):
        load(tmp_path)
    for data in (b"", b"hello", b"-----BEGIN nothing-----", b"\xff\xfe"):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=r"not a (private|public) key") as caught:
            load(path)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    path.write_bytes(b"x" * (2 << 20))
    with pytest.raises(UsageError, match="far too long"):
        load(path)


def test_other_kinds_of_key_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for key in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        path.write_bytes(key.private_bytes(PEM, PKCS8, OPEN))
        with pytest.raises(UsageError, match="not an Ed25519 key"):
            load_private_key(path)
        path.write_bytes(key.public_key().public_bytes(*PUBLIC[0]))
        with pytest.raises(UsageError, match="not an Ed25519 key"):
            load_public_key(path)


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(private().private_bytes(PEM, PKCS8, OPEN))
    with pytest.raises(UsageError, match="openssl pkey"):
        load_public_key(path)
