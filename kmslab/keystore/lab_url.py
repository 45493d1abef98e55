"""The URL of a lab in a database, taken apart; the password is in memory alone."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL

from kmslab.database_url import POSTGRESQL, is_url, parsed, split_password
from kmslab.errors import DatabaseUrlError

DEFAULT_SCHEMA: Final = "kmslab"
SCHEMA_OPTION: Final = "schema"
_SCHEMA_NAME: Final = re.compile("(?!pg_)[a-z_][a-z0-9_]{0,62}")
_NO_SCHEMAS: Final = ("public", "information_schema")


@dataclass(frozen=True, slots=True)
class LabUrl:
    """Where in which database a lab is.

    >>> found = LabUrl.of("postgresql://kms:secret@db.example/labs?schema=team_a")
    >>> found.location, found.schema
    ('postgresql://kms@db.example/labs?schema=team_a', 'team_a')
    """

    location: str
    """The URL without its password."""
    schema: str
    """The schema that is the lab's own."""
    database: URL = field(repr=False)
    """The database, as its driver understands it; without the password."""
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, url: str) -> LabUrl:
        """Take a URL apart.

        The schema is `kmslab`, or the one of `?schema=NAME`: kmslab's own option, which the driver
        is not given. DatabaseUrlError for what is no URL of PostgreSQL, and for one with an option
        that may hold a secret.
        """
        found = parsed(url)
        if found.drivername not in (POSTGRESQL, f"{POSTGRESQL}+psycopg"):
            raise DatabaseUrlError(
                f"no lab can be in {found.drivername}: name a directory, or a database of "
                "PostgreSQL as postgresql://user@host/database"
            )
        schema = found.query.get(SCHEMA_OPTION, DEFAULT_SCHEMA)
        named = isinstance(schema, str) and _SCHEMA_NAME.fullmatch(schema)
        if not isinstance(schema, str) or not named or schema in _NO_SCHEMAS:
            raise DatabaseUrlError(
                f"?{SCHEMA_OPTION}= names one schema, which is the lab's own: small letters, "
                "digits and underscores, 63 at most, and not pg_ at the beginning; it is neither "
                f"{' nor '.join(_NO_SCHEMAS)}"
            )
        plain = found.set(drivername=POSTGRESQL).difference_update_query([SCHEMA_OPTION])
        text, password = split_password(plain.render_as_string(hide_password=False))
        database = whole = parsed(text)
        if schema != DEFAULT_SCHEMA:
            whole = database.update_query_dict({SCHEMA_OPTION: schema})
        return cls(whole.render_as_string(hide_password=False), schema, database, password)


def in_database(location: str | Path) -> bool:
    """Whether a lab's place is the URL of a database, and no path."""
    return isinstance(location, str) and is_url(location)


def shown(location: str) -> str:
    """A lab's place as it may be shown, and given on a command line: without a password.

    >>> shown("./lab"), shown("postgresql://kms:secret@db.example/kmslab")
    ('./lab', 'postgresql://kms@db.example/kmslab')
    """
    return LabUrl.of(location).location if in_database(location) else location
