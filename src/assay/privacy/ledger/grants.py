"""Permissions that a data owner signs: this recipe, or this very request, so many times."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Self

from pydantic import Field, model_validator

from assay.claims.signing import PublicKey, Signer, open_envelope
from assay.config import Config, build, dump
from assay.errors import AssayError, BudgetError
from assay.files import canonical_json, parse_json, sha256
from assay.privacy.ledger.cost import Cost
from assay.privacy.ledger.policy import Policy, Request, nano, stored

TYPE = "application/vnd.assay.grant+json"


class Grant(Config):
    """What an owner permits.

    Attributes:
        ledger: identity of the ledger it is for: a grant of one site opens no other.
        recipe: name of the recipe that may run; or
        request: digest of the one request that may.
        epsilon: the most that a run may cost of each data set, at the budget's delta.
        uses: how many runs it allows.
        serial: makes two grants different.
    """

    ledger: str = Field(min_length=1)
    recipe: str | None = None
    request: str | None = None
    epsilon: float | None = Field(default=None, gt=0)
    uses: int = Field(default=1, ge=1)
    serial: str = Field(default_factory=lambda: secrets.token_hex(8))

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.recipe is None) == (self.request is None):
            raise ValueError("a grant is for a recipe's name or for a request's digest; give one")
        return self

    def sign(self, signer: Signer) -> str:
        """The signed permission: the text of a file that `Request.grant` takes."""
        payload = canonical_json(stored(dump(self)))
        return signer.envelope(TYPE, payload).decode() + "\n"


def _public(key: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = bytes.fromhex(key)
    return PublicKey(Ed25519PublicKey.from_public_bytes(raw), sha256(raw))


def hex_of(key: PublicKey) -> str:
    """A public key as a policy holds it: 64 hex digits."""
    return key.key.public_bytes_raw().hex()


def digest_of(envelope: str) -> str:
    """By which a ledger knows a grant again: of what was signed, not of how it is written."""
    opened = open_envelope(parse_json(envelope, "grant"), TYPE, "grant")
    return sha256(opened.payload)


def _read(envelope: str, keys: Iterable[str], where: str) -> Grant:
    try:
        opened = open_envelope(parse_json(envelope, where), TYPE, where)
        if any(opened.verified_by(_public(key)) for key in keys):
            return build(Grant, parse_json(opened.payload, where), where)
        problem = f"not signed by an owner that the policy knows, but by {opened.keyid[:16]}"
    except (AssayError, ValueError) as error:
        problem = error.what if isinstance(error, AssayError) else str(error)
    raise BudgetError(
        f"the owner's grant is not valid: {problem}", where=where, mend="ask the owner for one"
    )


def refuse_without_grant(
    policy: Policy,
    request: Request,
    costs: Sequence[Cost],
    ledger: str,
    used: Sequence[str],
    where: str,
) -> str | None:
    """Check the owner's permission, where the policy wants one.

    Args:
        policy: in force.
        request: what is asked for.
        costs: what it costs.
        ledger: this ledger's identity.
        used: digests of the grants that earlier runs used.
        where: for messages.

    Returns:
        The digest of the grant that is used; None where none is wanted.

    Raises:
        BudgetError: it is missing, not signed by an owner, for something else, or used up.
    """
    if not policy.keys:
        return None
    if request.grant is None:
        raise BudgetError(
            "the owner's policy wants a signed grant",
            where=where,
            mend=f"ask for one: assay site grant ... --request {request.digest}",
        )
    grant = _read(request.grant, policy.keys, where)
    digest = digest_of(request.grant)
    most = None if grant.epsilon is None else nano(grant.epsilon)
    wrong = None
    if grant.ledger != ledger:
        wrong = "is for another ledger"
    elif grant.recipe is not None and grant.recipe != request.recipe:
        wrong = f"is for the recipe {grant.recipe!r}, not {request.recipe!r}"
    elif grant.request is not None and grant.request != request.digest:
        wrong = "is for another request"
    elif most is not None and any(c.epsilon is None or c.epsilon > most for c in costs):
        wrong = f"allows epsilon {grant.epsilon:g} a run, which this one exceeds"
    elif list(used).count(digest) >= grant.uses:
        wrong = f"is used up: it was for {grant.uses}"
    if wrong is not None:
        raise BudgetError(
            f"the owner's grant {wrong}",
            where=where,
            mend=f"ask for one: assay site grant ... --request {request.digest}",
        )
    return digest
