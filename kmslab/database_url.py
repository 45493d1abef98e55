"""URLs of databases: what may be stored and shown of them, and the password apart.

A URL may hold a password in several places, and drivers have options of their own that hold one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from kmslab.errors import DatabaseUrlError

POSTGRESQL: Final = "postgresql"
EXTRAS: Final = {POSTGRESQL: "; install kmslab[postgres]"}
"""What to say where the driver of a database is missing."""

_DRIVERS: Final = {POSTGRESQL: "postgresql+psycopg"}
_PASSWORDS: Final = frozenset({"password", "passwd", "pwd"})
# The options of a URL that may be stored and shown; all others may hold a secret, whatever the
# driver calls it (odbc_connect, authToken, sslpassword). In small letters.
_KEPT: Final = frozenset(
    {
        *(
            "user",
            "host",
            "hostaddr",
            "port",
            "service",
            "service_name",
            "unix_socket",
            "load_balance_hosts",
        ),
        *("application_name", "fallback_application_name", "client_encoding", "charset", "options"),
        *("connect_timeout", "timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
        *("keepalives_count", "tcp_user_timeout", "target_session_attrs", "channel_binding"),
        *("gssencmode", "krbsrvname", "require_auth", "requirepeer", "passfile"),
        *("read_default_file", "read_default_group", "local_infile", "collation"),
        *("sslmode", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"),
        *("sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("ssl", "ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher"),
        *("ssl_disabled", "ssl_check_hostname", "ssl_verify_cert", "ssl_verify_identity"),
        *("driver", "encrypt", "trustservercertificate", "trusted_connection"),
        *("mode", "uri", "cache"),
    }
)
_ELSEWHERE: Final = "let the driver find it: for PostgreSQL in PGPASSWORD or ~/.pgpass"


def is_url(location: str) -> bool:
    """Whether a location is a database URL, and no path.

    >>> is_url("sqlite:///orders.db"), is_url("orders.db")
    (True, False)
    """
    return "://" in location


def parsed(url: str) -> URL:
    """A database URL taken apart.

    DatabaseUrlError for what is none; it is not shown, since it may hold a password.
    """
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(
            "this is no database URL; it should look like sqlite:///orders.db or "
            "postgresql://user@host/database"
        ) from None


def without_password(url: str) -> str:
    """A database URL as it may be shown: without its password, and without every option that is
    not known to hold none. DatabaseUrlError for what is no database URL.

    >>> without_password("postgresql://app:secret@db.example/shop?sslmode=require")
    'postgresql://app@db.example/shop?sslmode=require'
    """
    return shown(parsed(url)).render_as_string(hide_password=False)


def shown(url: URL) -> URL:
    """A URL less its password and what may be one."""
    query = {name: value for name, value in url.query.items() if name.lower() in _KEPT}
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)


def password_of(url: str) -> str | None:
    """The password in a database URL, which is to be kept apart from it and stored nowhere.

    DatabaseUrlError where it holds several.

    >>> password_of("postgresql://app:secret@db.example/shop")
    'secret'
    """
    given = {password for password in _passwords(parsed(url)) if password is not None}
    if len(given) > 1:
        raise DatabaseUrlError(
            f"{without_password(url)}: the URL holds several passwords; give one"
        )
    return next(iter(given), None)


def split_password(url: str) -> tuple[str, str | None]:
    """A database URL as it may be stored, and the password that was in it.

    DatabaseUrlError where an option of it may hold another secret.

    >>> split_password("postgresql://app@db.example/shop?password=secret")
    ('postgresql://app@db.example/shop', 'secret')
    """
    password = password_of(url)
    _refuse_unknown(parsed(url))
    return (url, None) if password is None else (without_password(url), password)


def storable(url: str) -> URL:
    """A URL that holds nothing which must not be stored; DatabaseUrlError for another."""
    found = parsed(url)
    if any(password is not None for password in _passwords(found)):
        raise DatabaseUrlError(
            f"{without_password(url)}: the URL holds a password, which would be stored with it; "
            f"leave it out, and {_ELSEWHERE}"
        )
    _refuse_unknown(found)
    return found


def with_driver(url: URL, password: str | None) -> URL:
    """The URL to connect by: with the driver that kmslab is tested with, where none is named, and
    with the password where one is given."""
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    return url if password is None else url.set(password=password)


def _refuse_unknown(url: URL) -> None:
    """DatabaseUrlError where an option is neither a password nor known to be none."""
    for name in url.query:
        if name.lower() not in _KEPT | _PASSWORDS:
            raise DatabaseUrlError(
                f"{shown(url).render_as_string()}: the option {name[:40]!r} of the URL may hold a "
                f"secret, which would be stored with it; leave it out, and {_ELSEWHERE}, or "
                "another setting in a file of its own: for PostgreSQL ~/.pg_service.conf"
            )


def _passwords(url: URL) -> Iterator[str | None]:
    """Everything that stands where a password does."""
    yield url.password
    for name, value in url.query.items():
        if name.lower() in _PASSWORDS:
            yield from (value,) if isinstance(value, str) else value
