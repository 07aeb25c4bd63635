"""Ed25519 signatures in DSSE envelopes (github.com/secure-systems-lab/dsse, protocol v1).

An envelope signs `PAE(payloadType, payload)`, so a signature over a statement can never pass for
one over a head. Ed25519 (RFC 8032) is deterministic: signing twice gives the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import ArtefactError, UsageError
from assay.files import canonical_json, sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

#: environment variable that holds the passphrase of an encrypted private key
PASSPHRASE = "ASSAY_KEY_PASSPHRASE"
_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_KEY_LIMIT = 1 << 20


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _keyid(key: Ed25519PublicKey) -> str:
    return sha256(key.public_bytes_raw())


@dataclass(frozen=True)
class PublicKey:
    """A key whose signatures are trusted.

    Attributes:
        key: the Ed25519 public key.
        keyid: hex SHA-256 of its 32 raw bytes.
    """

    key: Ed25519PublicKey
    keyid: str

    def verifies(self, payload_type: str, payload: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over the payload."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, pae(payload_type, payload))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A key that signs.

    Attributes:
        key: the Ed25519 private key; it is never printed.
        keyid: hex SHA-256 of the raw public key.
    """

    key: Ed25519PrivateKey
    keyid: str

    def __repr__(self) -> str:
        return f"Signer(keyid={self.keyid!r})"

    @property
    def public(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return PublicKey(self.key.public_key(), self.keyid)

    def envelope(self, payload_type: str, payload: bytes) -> bytes:
        """The DSSE envelope of a payload, as canonical JSON."""
        signature = self.key.sign(pae(payload_type, payload))
        return canonical_json(
            {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": payload_type,
                "signatures": [{"keyid": self.keyid, "sig": base64.b64encode(signature).decode()}],
            }
        )


@dataclass(frozen=True)
class Opened:
    """An envelope that was taken apart; its signature is not yet checked."""

    payload_type: str
    payload: bytes
    keyid: str
    signature: bytes

    def verified_by(self, trust: PublicKey) -> bool:
        """Whether the trusted key made the signature."""
        return self.keyid == trust.keyid and trust.verifies(
            self.payload_type, self.payload, self.signature
        )


def is_envelope(value: Any) -> bool:
    """Whether parsed JSON claims to be a DSSE envelope."""
    return isinstance(value, dict) and "payloadType" in value


def open_envelope(value: Any, payload_type: str, where: str) -> Opened:
    """Take an envelope with exactly one signature apart.

    Raises:
        ArtefactError: it has another form or another payload type.
    """

    def refuse(what: str) -> ArtefactError:
        return ArtefactError(what, where=where, mend="restore the file from its source")

    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise refuse("not a DSSE envelope: expected payload, payloadType and signatures")
    if value["payloadType"] != payload_type:
        raise refuse(f"expected an envelope of {payload_type}, got {value['payloadType']!r}")
    signatures = value["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise refuse("expected an envelope with one signature")
    entry = signatures[0]
    if not isinstance(entry, dict) or set(entry) != {"keyid", "sig"}:
        raise refuse("expected a signature with keyid and sig")
    keyid = entry["keyid"]
    if not isinstance(keyid, str) or len(keyid) != 64:
        raise refuse("the keyid of the signature is not a SHA-256")
    payload = _base64(value["payload"])
    signature = _base64(entry["sig"])
    if payload is None or signature is None:
        raise refuse("the envelope's base64 is damaged")
    return Opened(payload_type, payload, keyid, signature)


def _base64(text: Any) -> bytes | None:
    """Decode base64 in its one canonical form; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None


def _read_key(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_KEY_LIMIT + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the key: {error.strerror or error}", where=str(path), mend=_MAKE_KEY
        ) from None
    if len(data) > _KEY_LIMIT:
        raise UsageError("not a key: far too long", where=str(path), mend=_MAKE_KEY)
    return data


def load_private_key(path: Path) -> Signer:
    """Load an Ed25519 private key, PEM (PKCS #8) or OpenSSH.

    An encrypted key is opened with the passphrase in the environment variable
    `ASSAY_KEY_PASSPHRASE`.

    Raises:
        UsageError: the file is missing, no such key, or the passphrase is missing or wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data, given = _read_key(path), os.environ.get(PASSPHRASE)
    load: Any = (
        serialization.load_ssh_private_key
        if b"OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    secret = given.encode() if given else None
    try:
        try:
            key = load(data, None)
        except TypeError:  # the library's way to say that the key is encrypted
            if secret is None:
                raise UsageError(
                    "the private key is encrypted",
                    where=str(path),
                    mend=f"put its passphrase into the environment variable {PASSPHRASE}",
                ) from None
            key = load(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "not a private key in PEM or OpenSSH form"
        if secret is not None:
            what += f", or {PASSPHRASE} is not its passphrase"
        raise UsageError(what, where=str(path), mend=_MAKE_KEY) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError("not an Ed25519 key", where=str(path), mend=_MAKE_KEY)
    return Signer(key, _keyid(key.public_key()))


def load_public_key(path: Path) -> PublicKey:
    """Load an Ed25519 public key, PEM (SubjectPublicKeyInfo) or one OpenSSH line.

    Raises:
        UsageError: the file is missing or holds no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data = _read_key(path)
    mend = "give the public key: openssl pkey -in key.pem -pubout -out key.pub"
    load: Any = (
        serialization.load_pem_public_key
        if b"-----BEGIN" in data
        else serialization.load_ssh_public_key
    )
    try:
        key = load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(
            "not a public key in PEM or OpenSSH form", where=str(path), mend=mend
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError("not an Ed25519 key", where=str(path), mend=mend)
    return PublicKey(key, _keyid(key))
