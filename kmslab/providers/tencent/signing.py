"""The signatures of Tencent Cloud's API: TC3-HMAC-SHA256, and HmacSHA1 and HmacSHA256 of version 1.

Who sends a request and who checks it do the same steps. All of them are over bytes as they are on
the wire. Source: reference/tencent.md section 6, where eleven requests of the official client were
recomputed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kmslab.encoding import b64
from kmslab.errors import FormatError

TC3: Final = "TC3-HMAC-SHA256"
SERVICE: Final = "kms"
UNSIGNED_PAYLOAD: Final = b"UNSIGNED-PAYLOAD"
"""What is hashed for the body where the header X-TC-Content-SHA256 says just this."""

COMPULSORY: Final = frozenset({"content-type", "host"})
"""The headers that a TC3 signature covers at least."""

V1_METHODS: Final[Mapping[str, str]] = {"HmacSHA1": "sha1", "HmacSHA256": "sha256"}

_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256\s+Credential=([^/,\s]{1,128})/(\d{4}-\d\d-\d\d)/([a-z]{1,32})/tc3_request,\s*"
    r"SignedHeaders=([a-z0-9-]{1,64}(?:;[a-z0-9-]{1,64}){0,63}),\s*Signature=([0-9a-f]{64})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the header Authorization of a TC3 request says."""

    secret_id: str
    date: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @classmethod
    def read(cls, text: str) -> Authorization:
        """The parts of the header; FormatError where it is no TC3 authorization."""
        found = _AUTHORIZATION.fullmatch(text)
        if found is None:
            raise FormatError("not an Authorization of TC3-HMAC-SHA256")
        secret_id, date, service, names, signature = found.groups()
        return cls(secret_id, date, service, tuple(names.split(";")), signature)

    def text(self) -> str:
        """The header."""
        return (
            f"{TC3} Credential={self.secret_id}/{self.date}/{self.service}/tc3_request, "
            f"SignedHeaders={';'.join(self.signed_headers)}, Signature={self.signature}"
        )


def date_of(timestamp: int) -> str:
    """The UTC date that a TC3 signature of this time has.

    >>> date_of(1795298580)
    '2026-11-21'
    """
    year, month, day = time.gmtime(timestamp)[:3]
    return f"{year:04}-{month:02}-{day:02}"


def canonical_request(
    method: str, query: bytes, headers: Sequence[tuple[str, bytes]], payload: bytes
) -> bytes:
    """A request as TC3 hashes it. `headers` are those that are signed, in their order.

    The path is always `/`; `query` is the raw text after the question mark.
    """
    names = ";".join(name for name, _ in headers).encode("ascii")
    lines = b"".join(b"%b:%b\n" % (name.encode("ascii"), value) for name, value in headers)
    digest = hashlib.sha256(payload).hexdigest().encode("ascii")
    return b"\n".join((method.encode("ascii"), b"/", query, lines, names, digest))


def string_to_sign(timestamp: int, canonical: bytes, *, service: str = SERVICE) -> bytes:
    """What a TC3 signature is over."""
    scope = f"{date_of(timestamp)}/{service}/tc3_request"
    digest = hashlib.sha256(canonical).hexdigest()
    return f"{TC3}\n{timestamp}\n{scope}\n{digest}".encode("ascii")


def tc3_signature(secret_key: bytes, date: str, text: bytes, *, service: str = SERVICE) -> str:
    """The TC3 signature, 64 hexadecimal digits, of a text that was made on this date."""
    key = b"TC3" + secret_key
    for step in (date, service, "tc3_request"):
        key = _hmac(key, step.encode("ascii"))
    return _hmac(key, text).hex()


def v1_string(method: str, host: bytes, parameters: Iterable[tuple[str, str]]) -> bytes:
    """What a signature of version 1 is over: the parameters without `Signature`, not encoded. So
    values with `&` and `=` in them can make one text of two requests; whoever checks sees to that.

    >>> v1_string("GET", b"127.0.0.1:80", [("Nonce", "1"), ("Action", "ListKeys")])
    b'GET127.0.0.1:80/?Action=ListKeys&Nonce=1'
    """
    pairs = sorted((name.replace("_", "."), value) for name, value in parameters)
    text = "&".join(f"{name}={value}" for name, value in pairs)
    return method.encode("ascii") + host + b"/?" + text.encode("utf-8", "surrogatepass")


def v1_signature(secret_key: bytes, text: bytes, method: str = "HmacSHA1") -> str:
    """The base64 text of a signature of version 1; KeyError for another method."""
    return b64(hmac.digest(secret_key, text, V1_METHODS[method]))


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
