"""A lab in PostgreSQL: a schema of its own, in a database that several machines reach.

Writers take the lab row with FOR UPDATE, one after the other, and read committed: what they read
after it is the newest. Readers see one state, by REPEATABLE READ, and wait for nobody. What a
commit rests on is set in each transaction, whatever the server's defaults are, and stays right
behind a pooler: `synchronous_commit`, the schema, how long a lock is waited for.

NOTIFY would come some time after the commit that it tells of. So every call asks whether the lab
has changed, by a prepared select of one row on a connection of its own: 45 us with the server on
the same 2-core virtual machine, and one round trip more over a network. Batches ask once a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from operator import attrgetter
from typing import Final

from psycopg.errors import Diagnostic
from sqlalchemy import Connection, Engine, Transaction, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from kmslab.database_url import with_driver
from kmslab.errors import LabError, LabExists, LabUncertain
from kmslab.keystore.database import BUSY_SECONDS
from kmslab.keystore.lab_url import SCHEMA_OPTION, LabUrl
from kmslab.keystore.postgres_connecting import Asking, Connections, Silence
from kmslab.keystore.postgres_errors import lab_errors, said
from kmslab.keystore.state import LabRow

ERASE_SECONDS: Final = 0.1
"""How long an erasure waits for a table; whoever asks for the table after it waits as long."""

GONE_SECONDS: Final = 60
"""How long whoever has the lab may do nothing, before the server takes it for gone."""

UNHURRIED_SECONDS: Final = 900
"""The same for a change that works for long between its statements."""

# A server has no limits of its own either: a lock of a machine without power is held for hours.
_KEEPALIVES: Final = {
    "tcp_keepalives_idle": 20,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# At least on; a server that has remote_apply for its default asks for more.
_DURABLE: Final = (
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') <> 'remote_apply'"
)
_OWNED: Final = (
    "SELECT pg_catalog.pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace "
    "WHERE nspname = %s::name"
)
# Each differs where the lab does, but for its audit log: others need not look for new rows of that.
_TOLD: Final = ("keys_digest", "credentials_digest", "settings", "root_id", "kdf", "unsafe")
_told: Final = attrgetter(*_TOLD)
_SEALED: Final = {"versions": "sealed", "credentials": "sealed"}
# A schema, a table or a role of this name is there already, or has just been made by another.
_TAKEN: Final = ("42P06", "42P07", "23505", "42710")


class PostgresDatabase:
    """The database of the lab that a URL names; it is asked nothing before it is used."""

    path = None

    def __init__(self, url: str) -> None:
        found = LabUrl.of(url)
        self.location = self.where = found.location
        self.secret_url = found.password is not None
        self._schema = found.schema
        self._connections = Connections(found)
        self._engine = _engine(found, self._connections)
        self._asking: Asking | None = None

    def listen(self) -> Asking:
        """What asks for all of the lab row that is not about the audit log."""
        columns = ", ".join(_TOLD)
        query = f'SELECT {columns} FROM "{self._schema}".lab'  # noqa: S608  # checked by LabUrl
        self._asking = Asking(query, self.where, self._connections)
        return self._asking

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the lab."""
        with (
            lab_errors(self.where),
            self._begun(read_only=True) as (connection, transaction),
            transaction,
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that has the lab to itself once it has read the lab row.

        LabUncertain where the connection was lost while it was being committed.
        """
        with lab_errors(self.where), self._transaction() as connection:
            yield connection

    @contextmanager
    def making(self) -> Iterator[Connection]:
        """The transaction that makes the lab's tables, in a schema that is made where it is not
        there yet. LabExists where the tables are."""
        schema = self._schema
        rights = (
            f"{self.where}: the role may not make the lab's schema here; have the database's owner "
            f'run: CREATE SCHEMA "{schema}" AUTHORIZATION the_role'
        )
        taken = (
            f"{self.where}: there is a lab already, or tables with the names of its own; open it, "
            f"or name another schema with ?{SCHEMA_OPTION}=NAME"
        )
        special: dict[str, LabError] = {"42501": LabError(rights)}
        special |= {state: LabExists(taken) for state in _TAKEN}
        with lab_errors(self.where, special), self._transaction() as connection:
            found = connection.exec_driver_sql(_OWNED, (schema,)).first()
            if found is None:
                connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
            elif not found[0]:
                raise LabError(
                    f"{self.where}: the schema {schema} belongs to somebody else, who could remove "
                    "the lab or have its role run anything; have the database's owner run: "
                    f'ALTER SCHEMA "{schema}" OWNER TO the_role'
                )
            # It is ours: tables are made in it.
            connection.exec_driver_sql(f'SET LOCAL search_path = "{schema}", pg_temp')
            yield connection
            # ANALYZE would copy what is sealed into the statistics, where no erasure finds it.
            for table, column in _SEALED.items():
                connection.exec_driver_sql(
                    f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0"
                )

    def unhurried(self, connection: Connection) -> None:
        """Have the server wait longer for this transaction."""
        connection.exec_driver_sql(
            f"SET LOCAL idle_in_transaction_session_timeout = '{UNHURRIED_SECONDS}s'"
        )

    def committed(self, lab: LabRow, *, audit_only: bool) -> tuple[object, ...]:
        """Nobody need be told: all ask."""
        return _told(lab)

    def erase(self) -> bool:
        """Rewrite the tables without what was deleted; whether no table holds it any more.

        Rows that a transaction of somebody else in the database may still look at are kept by the
        rewriting, and PostgreSQL says how many. The write-ahead log, replicas and backups are
        beyond reach. LabError where the role does not own the tables.
        """
        # Not VACUUM, which runs in no transaction: a pooler would send it elsewhere.
        statements = [
            "BEGIN",
            f"SET LOCAL lock_timeout = {int(ERASE_SECONDS * 1000)}",
            "SET LOCAL statement_timeout = 0",
            "SET LOCAL search_path = pg_catalog, pg_temp",
            *(f'CLUSTER VERBOSE "{self._schema}".{table} USING {table}_pkey' for table in _SEALED),
            "COMMIT",
        ]
        owns = LabError(
            f"{self.where}: the role may not rewrite the lab's tables; have it own them"
        )
        told: list[str] = []

        def hear(notice: Diagnostic) -> None:
            if notice.severity_nonlocalized == "INFO" and notice.message_detail:
                told.append(notice.message_detail)

        with (
            lab_errors(self.where, {"42501": owns}),
            closing(self._connections.connect()) as connection,
        ):
            connection.patience = None  # it takes as long as there is to rewrite
            connection.add_notice_handler(hear)
            connection.execute("; ".join(statements).encode())
        if len(told) != len(_SEALED):
            raise owns
        # "0 dead row versions cannot be removed yet", in whatever language.
        return all(_first_number(detail) == 0 for detail in told)

    def begin_child(self) -> None:
        """Leave the parent's connections alone, in a forked child."""
        self._connections.begin_child()
        self._engine.dispose()
        if self._asking is not None:
            self._asking.begin_child()

    def close(self) -> None:
        """End all connections."""
        if self._asking is not None:
            self._asking.close()
        self._engine.dispose()

    @contextmanager
    def _begun(self, *, read_only: bool) -> Iterator[tuple[Connection, Transaction]]:
        """A transaction; where the connection is found to be gone when it is begun, and nothing
        has been done, on another one."""
        with ExitStack() as stack:
            for again in (True, False):
                connection = stack.enter_context(self._engine.connect())
                connection = connection.execution_options(read_only=read_only)
                try:
                    transaction = connection.begin()
                    break
                except DBAPIError as error:
                    silent = isinstance(error.orig, Silence)
                    if not again or silent or not error.connection_invalidated:
                        raise
            yield connection, transaction

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._begun(read_only=False) as (connection, transaction):
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                raise LabUncertain(
                    f"{self.where}: the connection was lost while a change was being committed "
                    f"({said(error.orig)}): it may have been made or not; look before you make it "
                    "again"
                ) from None


def _first_number(text: str) -> int | None:
    digits = "".join(c if c.isdigit() else " " for c in text).split()
    return int(digits[0]) if digits else None


def _engine(url: LabUrl, connections: Connections) -> Engine:
    """An engine whose transactions are set up by their first round trip."""
    engine = create_engine(
        with_driver(url.database, None),
        creator=connections.connect,
        poolclass=QueuePool,
        pool_size=1,
        hide_parameters=True,
        use_native_hstore=False,
        execution_options={"schema_translate_map": {None: url.schema}},
    )
    # Tables are named with their schema. Operators and functions are PostgreSQL's own: one that
    # somebody has made for just these types would go before them, and be run as the lab's role.
    path = "SET LOCAL search_path = pg_catalog, pg_temp"
    busy = f"SET LOCAL lock_timeout = {int(BUSY_SECONDS * 1000)}"
    read = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {path}; {busy}"
    write = "; ".join(
        (
            f"BEGIN ISOLATION LEVEL READ COMMITTED; {path}",
            _DURABLE,
            f"{busy}; SET LOCAL statement_timeout = 0",
            f"SET LOCAL idle_in_transaction_session_timeout = '{GONE_SECONDS}s'",
            *(f"SET LOCAL {name} = {value}" for name, value in _KEEPALIVES.items()),
        )
    )

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql(read if read_only else write)

    return engine
