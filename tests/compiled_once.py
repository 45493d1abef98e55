"""Labs that share what SQLAlchemy has compiled, in this process and those it forks.

SQLAlchemy takes longer to compile the statements of a lab than SQLite to run them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.schema import CreateTable

from kmslab.keystore import schema


def engines_alike() -> Callable[..., Engine]:
    """A `create_engine` for SQLite whose engines have one dialect and one cache."""
    first = create_engine("sqlite://")
    first.connect().close()  # so that the dialect knows its database
    first.dispose()
    dialect = first.dialect
    compiled: dict[object, object] = {}

    def create(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options)
        engine.dialect = dialect
        engine.update_execution_options(compiled_cache=compiled)
        return engine

    return create


class TablesAlike:
    """The tables of a lab, whose statements are compiled for the first one."""

    def __init__(self) -> None:
        self._statements: list[str] = []

    def create_all(self, connection: Connection, *, checkfirst: bool) -> None:
        """Make all tables of a database that has none."""
        assert not checkfirst
        if not self._statements:
            tables = schema.metadata.sorted_tables
            self._statements = [str(CreateTable(t).compile(connection)) for t in tables]
        for statement in self._statements:
            connection.exec_driver_sql(statement)
