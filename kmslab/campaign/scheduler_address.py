"""Whether a Dask scheduler can be spoken to: its address, the certificates, a first connection.

Dask itself tries for long, and says little of what was wrong. Nothing here loads it.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from kmslab.errors import CampaignError

CA: Final = "--scheduler-ca"
CERT: Final = "--scheduler-cert"
KEY: Final = "--scheduler-key"

_SCHEMES: Final = ("tcp", "tls", "ws", "wss", "ucx")
_WITHIN: Final = "inproc"
_MOST_SAID: Final = 200
_AGAIN_SECONDS: Final = 0.1


def check_address(address: str, *, insecure: bool, what: str = "scheduler") -> None:
    """CampaignError for what is no address, and for a scheduler, or worker, of another machine that
    is not spoken to over TLS.

    >>> check_address("tcp://127.0.0.1:8786", insecure=False)
    >>> check_address("tls://dask.example:8786", insecure=False)
    """
    try:
        parts = _parts(address)
        whole = parts.scheme == _WITHIN or _is_whole(parts)
    except ValueError:
        whole = False
    if not whole:
        raise CampaignError(
            f"{address[:_MOST_SAID]!r} is no address of a Dask {what}: it looks like "
            "tls://HOST:8786, or tcp://HOST:8786 on this machine"
        )
    if insecure or parts.scheme == "tls" or _is_near(parts):
        return
    raise CampaignError(
        f"the {what} {address} is on another machine, and who controls it, or the network "
        "between, can run any code on the workers and here: use tls:// with certificates, or say "
        "that it may be, by name (--insecure-scheduler)"
    )


def uses_tls(address: str) -> bool:
    """Whether certificates are needed for an address."""
    return _parts(address).scheme in ("tls", "wss")


def check_certificates(address: str, files: Mapping[str, str | None]) -> None:
    """CampaignError where the files for TLS, by the options that name them, are not what they are
    to be. One that is a text in PEM, as Dask takes it too, is not looked at."""
    for option, path in files.items():
        if path is not None and "\n" not in path:
            _check_readable(option, path)
    for option in (CA, CERT):
        if files[option] is None:
            raise CampaignError(
                f"{address} is spoken to over TLS, with certificates of both sides: give {option} "
                f"FILE ({CA}: who signs those of the cluster; {CERT} and {KEY}: our own), or set "
                "distributed.comm.tls in Dask's configuration"
            )
    ca, cert, key = files[CA] or "", files[CERT] or "", files[KEY]
    if not any("\n" in text for text in (ca, cert, key or "")):
        _check_pem(ca, cert, key)


def _check_readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise CampaignError(f"{path} ({option}) cannot be read: {error.strerror}") from None


def _check_pem(ca: str, cert: str, key: str | None) -> None:
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise CampaignError(f"{ca} ({CA}) holds no certificate in PEM") from None
    try:
        # Dask would have OpenSSL ask for a passphrase on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"{key or cert} is not the key of {cert} ({CERT})"
        elif key is None:
            why = f"{cert} ({CERT}) holds no certificate with its key in PEM: give {KEY} FILE"
        else:
            why = (
                f"{cert} ({CERT}) and {key} ({KEY}) are no certificate and key in PEM, or the key "
                "is under a passphrase, for which there is nobody to ask"
            )
        raise CampaignError(why) from None


def try_connecting(
    address: str, context: ssl.SSLContext | None, files: Mapping[str, str | None], seconds: float
) -> None:
    """CampaignError where nothing at an address answers as a scheduler does. `context` is for TLS,
    and `files` are named in what is said."""
    parts = _parts(address)
    if parts.scheme not in ("tcp", "tls"):
        return
    where = f"the scheduler at {address}"
    try:
        with (
            _connected((parts.hostname or "", parts.port or 0), seconds) as plain,
            _line(plain, context) as line,
        ):
            said = line.recv(1)  # a scheduler speaks first
    except ssl.SSLCertVerificationError as error:
        why = (
            f"{where} has a certificate that {files[CA]} ({CA}) does not vouch for "
            f"({error.verify_message}): name the certificate of who has signed it"
        )
    except TimeoutError:
        why = f"{where} does not answer: is it one, and is it spoken to over TLS (tls://)?"
        why = why if context is None else f"{where} does not answer"
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            why = f"{where} does not take our certificate {files[CERT]} ({CERT}): {error.reason}"
        else:
            why = f"{where} does not speak TLS ({error.reason}): is it reached by tcp://?"
    except OSError as error:
        why = f"{where} cannot be reached: {error.strerror or error}"
    else:
        if said:
            return
        why = f"{where} has closed the connection at once: is it one?"
    raise CampaignError(why) from None


def _connected(place: tuple[str, int], seconds: float) -> socket.socket:
    """A connection to what is there, or is being started."""
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(place, seconds)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
        time.sleep(_AGAIN_SECONDS)


def _line(
    plain: socket.socket, context: ssl.SSLContext | None
) -> AbstractContextManager[socket.socket]:
    return nullcontext(plain) if context is None else context.wrap_socket(plain)


def _parts(address: str) -> SplitResult:
    return urlsplit(address if "://" in address else f"tcp://{address}")


def _is_whole(parts: SplitResult) -> bool:
    """Whether they name a place; ValueError for what nobody could look up."""
    host = parts.hostname or ""
    host.encode("idna")
    return parts.scheme in _SCHEMES and bool(host) and bool(parts.port)


def _is_near(parts: SplitResult) -> bool:
    """Whether what is there is on this machine, and spoken to without a network."""
    host = parts.hostname or ""
    if parts.scheme == _WITHIN or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
