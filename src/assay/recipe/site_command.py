"""The commands `assay site ...`: parse, call, print."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

with warnings.catch_warnings():
    # typer touches a name that newer releases of click deprecate
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer

if TYPE_CHECKING:
    from assay.recipe.site import Said

app = typer.Typer(
    name="site",
    help="A data owner's privacy ledger: what was spent, and what is allowed.",
    add_completion=False,
    rich_markup_mode=None,
)

Folder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The site's folder (or its database's URL).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key", metavar="PUBKEY", help="Owner's public key: runs need a grant (repeatable)."
    ),
]


def _show(said: Said, as_json: bool) -> int:
    found, lines = said
    text = json.dumps(found, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo(text if as_json else "\n".join(lines))
    return 0


@app.command()
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder for the site.")],
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", metavar="E", help="Budget of each data set and privacy unit."),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option("--delta", metavar="D", help="Its delta (default 0: pure mechanisms only)."),
    ] = None,
    policy_: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="A whole policy (YAML) instead.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="PostgreSQL instead of SQLite in the folder."),
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Use the ledger that is at --url already.")
    ] = False,
    key: Keys = None,
    json_: Json = False,
) -> int:
    """Make a site: a policy, a ledger, and a mark that watches over it."""
    from assay.recipe import site

    said = site.init(
        folder, url=url, join=join, policy=policy_, epsilon=epsilon, delta=delta, keys=key or ()
    )
    return _show(said, json_)


@app.command()
def policy(
    folder: Folder,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Put this policy in force.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Change one setting, e.g. budgets.0.epsilon=5."
        ),
    ] = None,
    key: Keys = None,
    json_: Json = False,
) -> int:
    """Show the policy in force, or change it."""
    from assay.recipe import site

    return _show(site.policy(folder, file=file, set_=set_ or (), keys=key or ()), json_)


@app.command()
def ledger(folder: Folder, json_: Json = False) -> int:
    """List what was spent, and what is left."""
    from assay.recipe import site

    return _show(site.ledger(folder), json_)


@app.command()
def grant(
    folder: Folder,
    key: Annotated[
        Path, typer.Option("--key", metavar="KEY", help="The owner's Ed25519 private key.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The grant to write.")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="The recipe that may run; or")
    ] = None,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="DIGEST", help="the one request that is allowed."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option("--epsilon", metavar="E", help="The most that a run may cost.")
    ] = None,
    uses: Annotated[
        int, typer.Option("--uses", metavar="N", min=1, help="How many runs it allows.")
    ] = 1,
    json_: Json = False,
) -> int:
    """Sign a permission for a run."""
    from assay.recipe import site

    said = site.grant(
        folder, key=key, out=out, recipe=recipe, request=request, epsilon=epsilon, uses=uses
    )
    return _show(said, json_)


@app.command()
def audit(folder: Folder, json_: Json = False) -> int:
    """Check the whole ledger: its chain, its mark, every charge and every grant."""
    from assay.recipe import site

    return _show(site.audit(folder), json_)
