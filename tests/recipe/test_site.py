"""`assay site`: a data owner at the command line."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assay.cli import invoke
from assay.errors import BudgetError
from assay.privacy.events import Event
from assay.privacy.ledger import Ledger, Request


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def assay(capfd: pytest.CaptureFixture[str], workspace: Path) -> Any:
    def call(*args: object) -> Said:
        capfd.readouterr()
        code = invoke(["site", *map(str, args)])
        return Said(code, *capfd.readouterr())

    return call


def asks(epsilon: float, grant: str | None = None) -> Request:
    events = (Event(mechanism="pure", epsilon=epsilon, data="ward"),)
    whole = {"recipe": "wards", "model": "mlp", "stages": ("finetune",), "n_units": 500}
    return Request(**whole, events=events, grant=grant)


@pytest.fixture
def keys(workspace: Path) -> Path:
    """`key.pem`, and the public half in `key.pub`."""
    key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (workspace / "key.pem").write_bytes(private)
    (workspace / "key.pub").write_bytes(public)
    return workspace


def test_a_site_from_its_making_to_its_audit(assay: Any) -> None:
    said = assay("init", "hospital", "--epsilon", 3, "--delta", "1e-5")
    assert (said.code, said.out, said.err) == (0, "hospital\n", "")
    Ledger.open("hospital").reserve("run-1", asks(0.75))
    listed = assay("ledger", "hospital").out.splitlines()
    assert listed[2].startswith("1 ")
    assert listed[2].endswith("spend  run-1  wards   epsilon 0.75 at delta 1e-05 of ward by row")
    assert listed[-1] == (
        "ward by row: 25% of epsilon 3 at delta 1e-05 used; so far epsilon 0.75; runs: 1"
    )
    audited = assay("audit", "hospital")
    assert audited.code == 0
    assert audited.out.splitlines()[:3] == [
        "chain, charges and grants hold",
        "rows: 2, runs: 1, policies: 1",
        "the mark agrees",
    ]


def test_every_command_speaks_json(assay: Any, keys: Path) -> None:
    made = assay("init", "hospital", "--epsilon", 3, "--delta", "1e-5", "--json").json
    assert made["site"] == "hospital"
    assert made["policy"]["budgets"][0]["epsilon"] == 3.0
    ledger = Ledger.open("hospital")
    assert made["ledger"] == ledger.identity()
    ledger.reserve("run-1", asks(0.75))
    found = assay("ledger", "hospital", "--json").json
    assert [row["run"] for row in found["rows"]] == [None, "run-1"]
    assert found["rows"][1]["cost"][0]["epsilon"] == "0.75"
    (balance,) = found["balances"]
    assert (balance["spent"], balance["left"], balance["share"]) == (0.75, 2.25, 0.25)
    audited = assay("audit", "hospital", "--json").json
    assert (audited["runs"], audited["mark"], audited["balances"]) == (1, True, [balance])
    assert assay("policy", "hospital", "--json").json == made["policy"]
    granted = assay(
        "grant", "hospital", "--key", "key.pem", "--recipe", "r", "--out", "g.json", "--json"
    ).json
    assert granted["grant"]["recipe"] == "r"
    assert Path(granted["path"]).is_file()


def test_a_policy_is_shown_and_changed(assay: Any) -> None:
    assay("init", "hospital", "--epsilon", 3)
    shown = yaml.safe_load(assay("policy", "hospital").out)
    assert shown["budgets"][0] == {
        "data": "*",
        "unit": "*",
        "epsilon": 3.0,
        "delta": 0.0,
        "together": False,
        "orders": None,
    }
    changes = ("--set", "budgets.0.epsilon=5", "--set", "smallest_cohort=100")
    changed = assay("policy", "hospital", *changes, "--json").json
    assert (changed["budgets"][0]["epsilon"], changed["smallest_cohort"]) == (5.0, 100)
    Path("new.yaml").write_text("budgets: [{data: ward*, epsilon: 2, delta: 1e-6}]\nstages: [a]\n")
    assert assay("policy", "hospital", "--file", "new.yaml").code == 0
    policy = Ledger.open("hospital").policy()
    assert (policy.budgets[0].data, policy.stages, policy.smallest_cohort) == ("ward*", ("a",), 1)
    assert [row.kind for row in Ledger.open("hospital").rows()] == ["open", "policy", "policy"]
    # looking changes nothing
    assert assay("policy", "hospital").code == 0
    assert len(Ledger.open("hospital").rows()) == 3


def test_a_site_from_a_whole_policy(assay: Any, keys: Path) -> None:
    Path("p.yaml").write_text("budgets: [{epsilon: 2}]\nlargest_epsilon: 0.5\n")
    assert assay("init", "hospital", "--policy", "p.yaml", "--key", "key.pub").code == 0
    policy = Ledger.open("hospital").policy()
    assert policy.largest_epsilon == 0.5
    assert len(policy.keys) == 1
    assert policy.keys[0] not in (None, "")


def test_an_owner_grants_a_request(assay: Any, keys: Path) -> None:
    assay("init", "hospital", "--epsilon", 3, "--key", "key.pub")
    ledger = Ledger.open("hospital")
    with pytest.raises(BudgetError, match="wants a signed grant"):
        ledger.reserve("run-1", asks(0.5))
    arguments = ("--key", "key.pem", "--request", asks(0.5).digest, "--out", "g.json")
    said = assay("grant", "hospital", *arguments)
    assert (said.code, said.out) == (0, "g.json\n")
    ledger.reserve("run-1", asks(0.5, Path("g.json").read_text()))
    assert assay("audit", "hospital").code == 0


def test_a_key_that_the_policy_does_not_know_is_pointed_out(assay: Any, keys: Path) -> None:
    assay("init", "hospital", "--epsilon", 3)
    said = assay("grant", "hospital", "--key", "key.pem", "--recipe", "r", "--out", "g.json")
    assert said.code == 0
    assert "add it: assay site policy hospital --key PUBKEY" in said.out
    assert assay("policy", "hospital", "--key", "key.pub").code == 0
    assert (
        assay("grant", "hospital", "--key", "key.pem", "--recipe", "r", "--out", "g").out == "g\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("init s", 2, "a site needs a budget; give --epsilon and --delta, or --policy FILE"),
        ("init s --epsilon 1 --policy p.yaml", 2, "a site needs a budget"),
        ("init s --policy none.yaml", 2, "none.yaml"),
        ("init s --epsilon nan", 2, "policy.budgets[0].epsilon"),
        ("init s --epsilon -1", 2, "policy.budgets[0].epsilon"),
        ("init s --epsilon 1 --delta 1", 2, "policy.budgets[0].delta"),
        ("init s --join", 2, "--join needs the ledger's --url"),
        ("init s --epsilon 1 --url nonsense", 4, "not the URL of a database"),
        ("init s --epsilon 1 --url postgresql://a:b@c/d", 2, "the URL holds a password"),
        ("init none/s --epsilon 1", 4, "none/s: cannot write: No such file or directory"),
        ("policy none", 4, "none: no such folder; make one: assay site init"),
        ("ledger .", 4, "no site: there is no site.json"),
        ("grant old --key k --out o", 2, "cannot read the key"),
        ("grant old --key key.pem --out o", 2, "give one"),
        ("policy old --set budgets.0.epsilon=none", 2, "epsilon"),
        ("policy old --set budget=3", 2, "did you mean 'budgets'?"),
        ("init old --epsilon 1", 4, "old: there is something already; name a new one"),
        ("nonsense", 2, "No such command 'nonsense'; see: assay site --help"),
    ],
)
def test_mistakes_are_one_line(
    assay: Any, keys: Path, arguments: str, code: int, says: str
) -> None:
    Path("p.yaml").write_text("budgets: [{epsilon: 2}]\n")
    assay("init", "old", "--epsilon", 1)
    rows = len(Ledger.open("old").rows())
    said = assay(*arguments.split())
    assert said.code == code
    assert said.err.startswith("error: ")
    assert says in said.err
    assert said.err.count("\n") == 1
    assert sorted(p.name for p in Path().iterdir()) == ["key.pem", "key.pub", "old", "p.yaml"]
    assert len(Ledger.open("old").rows()) == rows
    as_json = assay(*arguments.split(), "--json")
    assert as_json.json["error"]["exit_code"] == code


@pytest.mark.parametrize("command", ["ledger", "audit", "policy"])
def test_a_tampered_ledger_is_7(assay: Any, command: str) -> None:
    assay("init", "hospital", "--epsilon", 3)
    with closing(sqlite3.connect("hospital/ledger.sqlite")) as connection:
        connection.execute("UPDATE assay_ledger SET line = replace(line, '3.0', '9.0')")
        connection.commit()
    said = assay(command, "hospital")
    assert said.code == 7
    assert said.out == ""
    assert said.err.startswith("error: hospital/ledger.sqlite: row 0: its content is not what")
    assert said.err.count("\n") == 1


def test_help_names_the_commands(assay: Any) -> None:
    said = assay("--help")
    assert said.code == 0
    for name in ("init", "policy", "ledger", "grant", "audit"):
        assert f"  {name} " in said.out


def test_keys_made_by_openssl_work(assay: Any) -> None:
    for line in (
        "openssl genpkey -algorithm ed25519 -out key.pem",
        "openssl pkey -in key.pem -pubout -out key.pub",
    ):
        subprocess.run(line.split(), check=True, capture_output=True)
    assert assay("init", "hospital", "--epsilon", 1, "--key", "key.pub").code == 0
    arguments = ("--key", "key.pem", "--recipe", "wards", "--uses", 2, "--epsilon", 0.3)
    assert assay("grant", "hospital", *arguments, "--out", "g").out == "g\n"
    grant = Path("g").read_text()
    ledger = Ledger.open("hospital")
    ledger.reserve("a", asks(0.3, grant))
    with pytest.raises(BudgetError, match=r"allows epsilon 0\.3 a run"):
        ledger.reserve("b", asks(0.4, grant))
