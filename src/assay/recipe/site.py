"""What `assay site` does, apart from parsing and printing: a data owner's ledger and policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.claims.signing import load_private_key, load_public_key
from assay.config import build, dump
from assay.errors import UsageError
from assay.files import write_bytes
from assay.recipe.listing import table_lines
from assay.recipe.overrides import assign
from assay.recipe.reading import parse_yaml, read_text, write_yaml

if TYPE_CHECKING:
    from assay.privacy.ledger import Policy

Said = tuple[dict[str, Any], list[str]]


def _policy(raw: Any, where: str, keys: Sequence[Path] = ()) -> Policy:
    from assay.privacy.ledger import Policy
    from assay.privacy.ledger.grants import hex_of

    named = [hex_of(load_public_key(path)) for path in keys]
    if named and isinstance(raw, dict):
        raw = {**raw, "keys": list(dict.fromkeys([*raw.get("keys", ()), *named]))}
    return build(Policy, raw, where)


def init(
    place: str,
    *,
    url: str | None = None,
    join: bool = False,
    policy: Path | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    keys: Sequence[Path] = (),
) -> Said:
    """Make a site: by a budget for each data set, by a policy from a file, or for a ledger there.

    Raises:
        UsageError: the options do not say what is to be made.
        LoadError: there is something already, or it cannot be written.
    """
    from assay.privacy.ledger import Ledger

    if join:
        if url is None:
            raise UsageError("--join needs the ledger's --url", mend="add --url")
        if policy is not None or epsilon is not None or delta is not None or keys:
            raise UsageError("the ledger has a policy already", mend="leave out all but --url")
        made = Ledger.join(Path(place), url)
    else:
        if (policy is None) == (epsilon is None):
            raise UsageError(
                "a site needs a budget", mend="give --epsilon and --delta, or --policy FILE"
            )
        raw: Any = {"budgets": [{"epsilon": epsilon, "delta": delta or 0.0}]}
        if policy is not None:
            if delta is not None:
                raise UsageError("--delta stands in the policy", mend="leave out --delta")
            raw = parse_yaml(read_text(policy), str(policy))[0]
        made = Ledger.create(place, policy=_policy(raw, str(policy or "policy"), keys), url=url)
    found = {"site": place, "ledger": made.identity(), "policy": dump(made.policy())}
    return found, [place]


def policy(
    place: str, *, file: Path | None = None, set_: Sequence[str] = (), keys: Sequence[Path] = ()
) -> Said:
    """Show the policy in force, or put another one in force.

    Raises:
        UsageError: it is not a policy.
        AssayError: see `Ledger`.
    """
    from assay.privacy.ledger import Ledger, Policy

    ledger = Ledger.open(place)
    raw: Any = dump(ledger.policy())
    if file is not None:
        raw = parse_yaml(read_text(file), str(file))[0]
    for assignment in set_:
        raw, _ = assign(Policy, raw, assignment)
    if file is not None or set_ or keys:
        ledger.set_policy(_policy(raw, str(file) if file is not None else "policy", keys))
    found = dump(ledger.policy())
    return found, write_yaml(found).splitlines()


def ledger(place: str) -> Said:
    """Every row and every balance of a checked ledger.

    Raises:
        AssayError: see `Ledger.rows`.
    """
    from assay.privacy.ledger import Ledger
    from assay.privacy.ledger.policy import shown
    from assay.privacy.ledger.reading import costs_in

    opened = Ledger.open(place)
    rows, balances = opened.rows(), [dump(one) for one in opened.balance()]
    listed = [
        {
            "row": row.seq,
            "time": row.body.get("time", ""),
            "kind": row.kind,
            "run": row.run,
            "recipe": row.body.get("request", {}).get("recipe"),
            "cost": [
                {"data": c.data, "unit": c.unit, "epsilon": shown(c.epsilon), "delta": c.delta}
                for c in costs_in(row)
            ],
        }
        for row in rows
    ]
    lines = table_lines(
        [
            {
                **{name: row[name] for name in ("row", "time", "kind", "run", "recipe")},
                "about": ", ".join(
                    f"epsilon {c['epsilon']} at delta {c['delta']:g} of {c['data'] or 'data'} "
                    f"by {c['unit']}"
                    for c in row["cost"]
                ),
            }
            for row in listed
        ]
    )
    return {"rows": listed, "balances": balances}, [*lines, "", *map(_balance_line, balances)]


def _balance_line(one: dict[str, Any]) -> str:
    spent = "infinite" if one["spent"] is None else f"{one['spent']:.4g}"
    share = "more than all" if one["share"] is None else f"{100 * one['share']:.3g}%"
    return (
        f"{one['data'] or 'data'} by {one['unit']}: {share} of epsilon {one['epsilon']:g} at "
        f"delta {one['delta']:g} used; so far epsilon {spent}; runs: {one['runs']}"
    )


def grant(
    place: str,
    *,
    key: Path,
    out: Path,
    recipe: str | None = None,
    request: str | None = None,
    epsilon: float | None = None,
    uses: int = 1,
) -> Said:
    """Sign a permission for a recipe's name or a request's digest, and write it to a file.

    Raises:
        UsageError: not exactly one of them is named, or the key is none.
        LoadError: the file cannot be written.
    """
    from assay.privacy.ledger import Grant, Ledger
    from assay.privacy.ledger.grants import digest_of, hex_of

    opened = Ledger.open(place)
    signer = load_private_key(key)
    raw = {
        "ledger": opened.identity(),
        "recipe": recipe,
        "request": request,
        "epsilon": epsilon,
        "uses": uses,
    }
    made = build(Grant, raw, "grant")
    text = made.sign(signer)
    write_bytes(out, text.encode())
    found = {"path": str(out), "digest": digest_of(text), "grant": dump(made)}
    lines = [str(out)]
    if hex_of(signer.public) not in opened.policy().keys:
        lines.append(
            "note: the policy does not know this key; add it: "
            f"assay site policy {place} --key PUBKEY"
        )
    return found, lines


def audit(place: str) -> Said:
    """Check chain and mark, recompute every charge, decide every grant again.

    Raises:
        ArtefactError: something does not hold; says which row.
    """
    from assay.privacy.ledger import Ledger

    opened = Ledger.open(place)
    found, balances = dump(opened.audit()), [dump(one) for one in opened.balance()]
    marked = opened.site.folder is not None
    lines = [
        "chain, charges and grants hold",
        f"rows: {found['rows']}, runs: {found['runs']}, policies: {found['policies']}",
        "the mark agrees" if marked else "no mark: a restored older copy would not show",
        *map(_balance_line, balances),
    ]
    return {**found, "mark": marked, "balances": balances}, lines
