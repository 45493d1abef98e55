"""From what names a source to the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kmslab.database_url import is_url, split_password
from kmslab.records.columns import DEFAULT_COLUMNS, Columns
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec


def open_source(
    spec: SourceSpec,
    *,
    password: str | None = None,
    described: bool = False,
    placed: bool = False,
) -> Source:
    """The source that a spec names: a table where it names a URL, files otherwise.

    Its records have neither `created_at` nor `owner`, unless the spec gives their columns other
    names, or they are to be `described`: no campaign looks at them, and what is not read costs no
    time and cannot be malformed. Nor have they `region` and `account`, unless these are named
    otherwise too, or they are to be `placed`: that matters among remotes alone.

    `password` is that of a database URL, which must not hold it: see `open_table`. SourceError
    where the source cannot be read.
    """
    unread = [] if described else ["created_at", "owner"]
    unread += [] if placed else ["region", "account"]
    spec = replace(spec, columns=_without_defaults(spec.columns, unread))
    # Either loads a large library, and nobody needs both.
    if is_url(spec.location):
        from kmslab.records.sql import open_table

        return open_table(spec, password=password)
    from kmslab.records.files import open_files

    return open_files(spec)


def _without_defaults(columns: Columns, unread: Sequence[str]) -> Columns:
    """The columns less those of these fields that nobody asked for by name."""
    usual = [name for name in unread if getattr(columns, name) == getattr(DEFAULT_COLUMNS, name)]
    nothing: dict[str, Any] = dict.fromkeys(usual)
    return replace(columns, **nothing)


def split_location(location: str) -> tuple[str, str | None]:
    """A location as it may be stored, and the password that was in it, if it is a database URL.

    SourceError for a URL that may hold another secret.

    >>> split_location("postgresql://app:secret@db.example/shop")
    ('postgresql://app@db.example/shop', 'secret')
    >>> split_location("orders.csv")
    ('orders.csv', None)
    """
    if not is_url(location):
        return location, None
    from kmslab.records.sql_errors import url_errors

    with url_errors():
        return split_password(location)


def absolute(spec: SourceSpec) -> SourceSpec:
    """The spec of the same source, to be kept: it means the same wherever this process stands.

    SourceError for a URL that holds a password, which `split_location` takes out of it.

    >>> absolute(SourceSpec("/data/orders.csv")).location
    '/data/orders.csv'
    """
    if is_url(spec.location):
        from kmslab.records.sql_database import absolute_url

        return replace(spec, location=absolute_url(spec.location))
    return replace(spec, location=str(Path(spec.location).absolute()))
