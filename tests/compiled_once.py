"""Labs that share what SQLAlchemy has compiled, in this process and those it forks.

SQLAlchemy takes longer to compile the statements of a lab than SQLite to run them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, create_engine


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
