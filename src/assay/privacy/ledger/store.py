"""Where rows are kept: SQLite, or PostgreSQL by URL.

Who writes holds the whole table from before the rows are read until after the commit, so that a
budget is decided on all rows there are: `BEGIN IMMEDIATE` in SQLite, `LOCK TABLE ... IN EXCLUSIVE
MODE` in PostgreSQL. A commit returns when the row is on the disk: write-ahead log with
`synchronous=FULL`; `synchronous_commit=on`, and a server with `fsync` off is refused.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import ArtefactError, AssayError, LoadError
from assay.privacy.ledger.chain import MEND, Stored

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

TABLE = "assay_ledger"
#: seconds to wait for others who write
PATIENCE = 120.0
_ONCE = "run again: the same run is charged once"


def _library() -> Any:
    try:
        import sqlalchemy
    except ImportError:
        raise LoadError(
            "a ledger needs SQLAlchemy", where="ledger", mend="pip install 'assay[private]'"
        ) from None
    return sqlalchemy


class Store:
    """The table of a ledger.

    Attributes:
        place: a file, or the URL of a database.
        where: its name in messages; never a password.
    """

    def __init__(self, place: Path | str) -> None:
        self.place = place
        self._engine, self.where = _sqlite(place) if isinstance(place, Path) else _by_url(place)
        self._table = _table()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment.

        Raises:
            LoadError: the database cannot be reached.
            ArtefactError: it is damaged, or there is none where one was.
        """
        self._there()
        with _explained(self.where), self._engine.connect() as raw, raw.begin():
            yield raw

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that nobody else writes beside; durable once the block has ended.

        Raises:
            LoadError: the database cannot be reached or written.
            ArtefactError: it is damaged, or there is none where one was.
        """
        self._there()
        with _explained(self.where), self._engine.connect() as raw:
            connection = raw.execution_options(assay_writes=True)
            with connection.begin():
                self._hold(connection)
                yield connection

    def _there(self) -> None:
        if isinstance(self.place, Path) and not self.place.is_file():
            raise ArtefactError("the ledger's file is gone", where=self.where, mend=MEND)

    def _hold(self, connection: Connection) -> None:
        if self._engine.dialect.name != "postgresql":
            return
        text = _library().text
        # commits of a session may have been made lazy by the server's settings
        connection.execute(text("SET LOCAL synchronous_commit = on"))
        connection.execute(text(f"SET LOCAL lock_timeout = {int(PATIENCE * 1000)}"))
        connection.execute(text(f"LOCK TABLE {TABLE} IN EXCLUSIVE MODE"))

    def rows(self, connection: Connection) -> list[Stored]:
        """All rows, by number."""
        table = self._table
        query = _library().select(table.c.seq, table.c.run, table.c.digest, table.c.line)
        return [Stored(*row) for row in connection.execute(query.order_by(table.c.seq))]

    def append(self, connection: Connection, row: Stored) -> None:
        """Add a row to the transaction."""
        values = {"seq": row.seq, "run": row.run, "digest": row.digest, "line": row.line}
        connection.execute(self._table.insert().values(**values))

    def create(self, first: Stored) -> None:
        """Make the table and its first row, at once.

        Raises:
            LoadError: there is one already, or the database cannot be written.
        """
        if isinstance(self.place, Path):
            with _explained(self.where):
                _make_sqlite(self.place)
        with _explained(self.where), self._engine.connect() as raw:
            connection = raw.execution_options(assay_writes=True)
            with connection.begin():
                if _library().inspect(connection).has_table(TABLE):
                    raise LoadError(
                        "there is a ledger already",
                        where=self.where,
                        mend="use it (add --join to reach it from here), or name another database",
                    )
                self._table.metadata.create_all(connection)
                self.append(connection, first)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def _table() -> Table:
    library = _library()
    return library.Table(  # type: ignore[no-any-return]
        TABLE,
        library.MetaData(),
        library.Column("seq", library.BigInteger, primary_key=True, autoincrement=False),
        library.Column("run", library.String(200), unique=True, nullable=True),
        library.Column("digest", library.String(64), nullable=False),
        library.Column("line", library.Text, nullable=False),
    )


def _make_sqlite(path: Path) -> None:
    path.touch(mode=0o600)
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _sqlite(path: Path) -> tuple[Engine, str]:
    library = _library()

    def connect() -> sqlite3.Connection:
        # never make a new, empty one where the ledger has gone
        uri = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA trusted_schema=OFF")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = library.create_engine("sqlite://", creator=connect, poolclass=library.pool.NullPool)

    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("assay_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    library.event.listen(engine, "begin", begin)
    return engine, str(path)


def _by_url(place: str) -> tuple[Engine, str]:
    library = _library()
    try:
        url = library.engine.make_url(place)
        # each statement sees what was committed before it: the lock is waited for, then rows read
        engine = library.create_engine(
            url, poolclass=library.pool.NullPool, isolation_level="READ COMMITTED"
        )
    except (library.exc.ArgumentError, library.exc.NoSuchModuleError, ValueError):
        raise LoadError(
            "not the URL of a database that is known",
            where="ledger",
            mend="write postgresql+psycopg://user@host/database",
        ) from None
    except ImportError as error:
        raise LoadError(
            f"the library {error.name} is missing",
            where="ledger",
            mend="pip install 'assay[postgres]'",
        ) from None
    if engine.dialect.name != "postgresql":
        raise LoadError(
            f"a ledger cannot be kept in {engine.dialect.name}",
            where="ledger",
            mend="use PostgreSQL, or a folder alone (SQLite)",
        )
    where = url.render_as_string(hide_password=True)

    def connected(connection: Any, _: Any) -> None:
        with connection.cursor() as cursor:
            durable = cursor.execute("SHOW fsync").fetchone()[0]
        connection.rollback()
        if durable != "on":
            raise LoadError(
                "the server's fsync is off: a power cut would lose what was spent",
                where=where,
                mend="set fsync = on in postgresql.conf",
            )

    library.event.listen(engine, "connect", connected)
    return engine, where


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Say what a database reports in the words of this program."""
    library = _library()
    try:
        yield
    except library.exc.DBAPIError as error:
        raise _meaning(error.orig, where) from None
    except (sqlite3.Error, OSError) as error:
        raise _meaning(error, where) from None


def _meaning(error: BaseException | None, where: str) -> AssayError:
    text = " ".join(str(error).split())[:200]
    if not isinstance(error, sqlite3.Error):
        if getattr(error, "sqlstate", None) == "42P01":
            return LoadError(
                "there is no ledger", where=where, mend="make one: assay site init FOLDER --url ..."
            )
        return LoadError(f"the database failed: {text}", where=where, mend=f"mend it, then {_ONCE}")
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such" in text:
        return ArtefactError(f"the ledger is damaged: {text}", where=where, mend=MEND)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        mend = f"find out who holds it, then {_ONCE}"
        return LoadError("the ledger is busy", where=where, mend=mend)
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        mend = f"free some space, then {_ONCE}"
        return LoadError(f"cannot write: {text}", where=where, mend=mend)
    return LoadError(f"the database failed: {text}", where=where, mend=f"mend it, then {_ONCE}")
