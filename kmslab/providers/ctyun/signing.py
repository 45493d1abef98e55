"""The EOP signature of CTyun's API.

Who sends a request and who checks it do the same steps. All of them are over bytes as they are on
the wire. Method, path and host are not signed. Source: reference/ctyun.md section 5, where
independent clients gave the same signatures.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from urllib.parse import quote

from kmslab.encoding import b64
from kmslab.errors import FormatError

REQUEST_ID: Final = "ctyun-eop-request-id"
EOP_DATE: Final = "eop-date"
COMPULSORY: Final = frozenset({REQUEST_ID, EOP_DATE})
"""The headers that an EOP signature covers at least."""

BEIJING: Final = timezone(timedelta(hours=8))
_DATE = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"([^\s=]{1,128}) Headers?=([a-z0-9-]{1,64}(?:;[a-z0-9-]{1,64}){0,63})"
    r" Signature=([A-Za-z0-9+/]{43}=)",
    re.ASCII | re.IGNORECASE,
)
_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the header Eop-Authorization says."""

    access_key: str
    signed_headers: tuple[str, ...]
    signature: str

    @classmethod
    def read(cls, text: str) -> Authorization:
        """The parts of the header; FormatError where it is no EOP authorization."""
        found = _AUTHORIZATION.fullmatch(text)
        if found is None:
            raise FormatError("not an Eop-Authorization")
        access_key, names, signature = found.groups()
        return cls(access_key, tuple(names.lower().split(";")), signature)

    def text(self) -> str:
        """The header."""
        names = ";".join(self.signed_headers)
        return f"{self.access_key} Headers={names} Signature={self.signature}"


def eop_date(moment: datetime) -> str:
    """The header Eop-date: the time in Beijing, in spite of its last letter.

    >>> eop_date(datetime(2022, 11, 1, 7, 46, 54, tzinfo=UTC))
    '20221101T154654Z'
    """
    return moment.astimezone(BEIJING).strftime(_DATE)


def moments_of(date: str) -> tuple[datetime, datetime]:
    """The times that an Eop-date can mean: in Beijing as documented, or in UTC as it is written.

    FormatError where it is none.

    >>> [moment.isoformat() for moment in moments_of("20221101T154654Z")]
    ['2022-11-01T15:46:54+08:00', '2022-11-01T15:46:54+00:00']
    """
    try:
        if not _STAMP.fullmatch(date):
            raise ValueError
        written = datetime.strptime(date, _DATE)
    except ValueError:
        raise FormatError("not an Eop-date, as 20221101T154654Z") from None
    return written.replace(tzinfo=BEIJING), written.replace(tzinfo=UTC)


def canonical_query(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The query as it is signed: sorted by name, the values encoded.

    >>> canonical_query([("b", "1 2"), ("a", "/")])
    b'a=%2F&b=1%202'
    """
    named = sorted(pairs, key=lambda pair: pair[0])
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in named).encode()


def string_to_sign(headers: Sequence[tuple[str, bytes]], query: bytes, body: bytes) -> bytes:
    """What an EOP signature is over. `headers` are those that are signed, in their order."""
    lines = b"".join(b"%b:%b\n" % (name.encode("ascii"), value) for name, value in headers)
    return b"%b\n%b\n%b" % (lines, query, hashlib.sha256(body).hexdigest().encode("ascii"))


def eop_signature(secret_key: bytes, access_key: str, date: str, text: bytes) -> str:
    """The base64 text of the EOP signature, by an Eop-date."""
    key = secret_key
    for step in (date, access_key, date[:8]):
        key = hmac.digest(key, step.encode("utf-8"), "sha256")
    return b64(hmac.digest(key, text, "sha256"))
