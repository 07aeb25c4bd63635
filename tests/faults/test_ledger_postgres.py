"""Long: a ledger in a real PostgreSQL server, raced for, and restarted in mid-run."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.errors import ArtefactError, BudgetError, LoadError, UsageError
from assay.privacy.ledger import Budget, Ledger, Policy
from tests.faults.spending import ASKED, policy

pytestmark = pytest.mark.long
INSTALLED = Path("/usr/lib/postgresql")
PROGRAM = Path(__file__).with_name("spending.py")


@dataclass
class Server:
    """A server that listens on a socket in its own folder only."""

    tools: Path
    folder: Path
    user: str

    def call(self, *arguments: str) -> None:
        """Run one of PostgreSQL's own tools, which refuse to run as root."""
        # a file, for a server that goes on would keep a pipe open
        with (self.folder / "said").open("ab") as said:
            done = subprocess.run(
                [str(self.tools / arguments[0]), *arguments[1:]],
                cwd=self.folder,
                user=self.user if os.getuid() == 0 else None,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert done.returncode == 0, (self.folder / "said").read_text()

    def control(self, what: str, *arguments: str) -> None:
        """`pg_ctl`, waiting until it is done."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self.call("pg_ctl", what, "-w", "-D", data, "-l", log, "-o", options, *arguments)

    def database(self, name: str) -> str:
        """Make a database; gives its URL."""
        self.call("createdb", "-h", str(self.folder), "-U", "owner", name)
        return f"postgresql+psycopg://owner@/{name}?host={self.folder}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    named = Path(os.environ.get("POSTGRES", "none")) / "initdb"
    found = [named] if named.exists() else sorted(INSTALLED.glob("*/bin/initdb"))
    assert found, "PostgreSQL is missing: make test-long installs Debian's"
    # a socket's path must be short, and the server's user must be able to reach it
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    shutil.chown(folder, user)
    (folder / "said").touch()
    shutil.chown(folder / "said", user)
    running = Server(found[-1].parent, folder, user)
    try:
        running.call("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "owner")
        running.control("start")
        yield running
    finally:
        if (folder / "data/postmaster.pid").exists():
            running.control("stop", "-m", "immediate")
        shutil.rmtree(folder)


def runs(ledger: Ledger) -> list[str]:
    return [str(row.run) for row in ledger.rows() if row.kind == "spend"]


def acknowledged_by(*arguments: object) -> list[str]:
    """What `spending.py` acknowledges before it ends."""
    with program(*arguments) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return out.split()


def program(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_a_ledger_does_in_a_file_it_does_here(server: Server, tmp_path: Path) -> None:
    url = server.database("plain")
    ledger = Ledger.create(tmp_path / "site", policy=policy(), url=url)
    receipt = ledger.reserve("a", ASKED)
    assert ledger.reserve("a", ASKED) == receipt
    assert not (tmp_path / "site/ledger.sqlite").exists()
    with pytest.raises(LoadError, match="there is a ledger already"):
        Ledger.create(tmp_path / "again", policy=policy(), url=url)
    assert not (tmp_path / "again").exists()
    other = Ledger.join(tmp_path / "other", url)
    other.set_policy(Policy(budgets=(Budget(epsilon=2.0),)))
    other.reserve("b", ASKED)
    with pytest.raises(BudgetError):
        ledger.reserve("c", ASKED)
    assert runs(Ledger.open(url)) == ["a", "b"]
    assert ledger.audit().rows == 4


def test_what_is_not_there(server: Server, tmp_path: Path) -> None:
    empty = server.database("empty")
    with pytest.raises(LoadError, match="there is no ledger"):
        Ledger.open(empty).check()
    with pytest.raises(LoadError, match="there is no ledger"):
        Ledger.join(tmp_path / "site", empty)
    with pytest.raises(LoadError, match="the database failed"):
        Ledger.open(empty.replace("/empty?", "/none?")).check()
    with pytest.raises(UsageError):
        Ledger.create(tmp_path / "site", policy=policy(), url="postgresql://a:b@h/d")
    assert list(tmp_path.iterdir()) == []


def test_rows_cut_off_from_a_table_show(server: Server, tmp_path: Path) -> None:
    import psycopg

    url = server.database("cut")
    ledger = Ledger.create(tmp_path / "site", policy=policy(), url=url)
    for run in "abc":
        ledger.reserve(run, ASKED)
    with psycopg.connect(host=str(server.folder), user="owner", dbname="cut") as connection:
        connection.execute("DELETE FROM assay_ledger WHERE seq = 3")
    for ask in (ledger.check, ledger.audit, lambda: ledger.reserve("d", ASKED)):
        with pytest.raises(ArtefactError, match="the mark has seen 4"):
            ask()
    with psycopg.connect(host=str(server.folder), user="owner", dbname="cut") as connection:
        connection.execute("DELETE FROM assay_ledger WHERE seq = 1")
    with pytest.raises(ArtefactError, match="expected row 1, found 2"):
        ledger.check()


@pytest.mark.parametrize("setting", ["synchronous_commit = off", "isolation"])
def test_a_lazy_server_is_overruled(server: Server, tmp_path: Path, setting: str) -> None:
    import psycopg

    name = setting.split(" ")[0]
    url = server.database(name)
    level = "synchronous_commit = off"
    if name == "isolation":
        level = "default_transaction_isolation = 'repeatable read'"
    with psycopg.connect(host=str(server.folder), user="owner", dbname=name) as connection:
        connection.execute(f"ALTER DATABASE {name} SET {level}".encode())
    Ledger.create(tmp_path / "site", policy=policy(), url=url)
    acknowledged = acknowledged_by("race", tmp_path / "site", 4)
    assert len(set(acknowledged)) == len(acknowledged) == 100
    server.control("restart", "-m", "immediate")
    assert sorted(runs(Ledger.open(tmp_path / "site"))) == sorted(acknowledged)


def test_sixteen_race_for_a_hundred_units(server: Server, tmp_path: Path) -> None:
    url = server.database("race")
    Ledger.create(tmp_path / "site", policy=policy(), url=url)
    acknowledged = acknowledged_by("race", tmp_path / "site", 16)
    assert len(set(acknowledged)) == len(acknowledged) == 100
    ledger = Ledger.open(tmp_path / "site")
    assert sorted(runs(ledger)) == sorted(acknowledged)
    assert ledger.audit().runs == 100


def test_a_restart_in_mid_run_loses_nothing(server: Server, tmp_path: Path) -> None:
    url = server.database("restart")
    Ledger.create(tmp_path / "site", policy=policy(), url=url)
    spenders = [program("spend", tmp_path / "site", f"s{n}") for n in range(3)]
    acknowledged: list[str] = []
    first = spenders[0].stdout
    assert first is not None
    for _ in range(4):
        acknowledged += [first.readline().strip() for _ in range(4)]
        server.control("restart", "-m", "immediate")
    for process in spenders:
        with process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        acknowledged += out.split()
    assert len(acknowledged) == 100
    ledger = Ledger.open(tmp_path / "site")
    assert sorted(runs(ledger)) == sorted(acknowledged)
    assert ledger.audit().runs == 100


def test_kills_lose_nothing(server: Server, tmp_path: Path) -> None:
    url = server.database("kills")
    large = Policy(budgets=(Budget(epsilon=1e6),))
    Ledger.create(tmp_path / "site", policy=large, url=url)
    acknowledged = set(acknowledged_by("kill", tmp_path / "site", 40, 5))
    charged = runs(Ledger.open(tmp_path / "site"))
    assert acknowledged <= set(charged)
    assert len(set(charged)) == len(charged)
    assert len(acknowledged) > 20


def test_a_server_that_does_not_sync_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.database("unsafe")
    Ledger.create(tmp_path / "site", policy=policy(), url=url)
    settings = server.folder / "data/postgresql.auto.conf"
    before = settings.read_text()
    try:
        settings.write_text(before + "fsync = off\n")
        server.control("restart")
        with pytest.raises(LoadError, match="fsync is off"):
            Ledger.open(tmp_path / "site").reserve("a", ASKED)
    finally:
        settings.write_text(before)
        server.control("restart")
    assert Ledger.open(tmp_path / "site").reserve("a", ASKED).row == 1
