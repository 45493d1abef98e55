"""Labs that share what SQLAlchemy has compiled, in this process and those it forks.

SQLAlchemy takes longer to compile the statements of a lab than SQLite to run them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.schema import CreateTable

from kmslab.keystore import schema


def engines_alike(url: str | URL = "sqlite://", **options: Any) -> Callable[..., Engine]:
    """A `create_engine` for one kind of database, whose engines have one dialect and one cache.

    `url` is one of that kind.
    """
    first = create_engine(url, **options)
    first.connect().close()  # so that the dialect knows its database
    first.dispose()
    dialect = first.dialect
    compiled: dict[object, object] = {}

    def create(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options, _initialize=False)
        engine.dialect = dialect
        engine.update_execution_options(compiled_cache=compiled)
        return engine

    return create


class TablesAlike:
    """The tables of a lab, whose statements are compiled for the first one in each database."""

    def __init__(self) -> None:
        self._statements: dict[str, list[str]] = {}

    def create_all(self, connection: Connection, *, checkfirst: bool) -> None:
        """Make all tables of a database that has none."""
        assert not checkfirst
        name = connection.dialect.name
        if name not in self._statements:
            tables = schema.metadata.sorted_tables
            compiled = [str(CreateTable(t).compile(connection)) for t in tables]
            self._statements[name] = compiled
        for statement in self._statements[name]:
            connection.exec_driver_sql(statement)
