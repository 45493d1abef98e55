"""kmslab serve: a lab over HTTP, to which the vendors' own clients connect."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kmslab.cli import INTERRUPTED
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_json, write_line
from kmslab.ending import after

if TYPE_CHECKING:
    from kmslab.keystore.credentials import NewCredential
    from kmslab.lab import Lab

PORT: Final = 8400
_DEMO: Final = "serve-demo"

app = typer.Typer(**settings())


@app.command(epilog=example("kmslab serve --demo", "kmslab serve --lab ./lab --port 8400"))
@opens_lab
def serve(
    opening: Opening,
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65535, help="The port; 0 takes one that is free."),
    ] = PORT,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help="Make a credential for this run, and show how each SDK is pointed here. Without"
            " a lab the demo lab is served, and is gone afterwards.",
        ),
    ] = False,
    no_rate_limit: Annotated[
        bool, typer.Option("--no-rate-limit", help="Allow any number of calls a second.")
    ] = False,
    region: Annotated[
        list[str] | None,
        typer.Option(
            "--region",
            metavar="PROVIDER:NAME",
            help="A further region, where the lab has no key in it yet. Again for more.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="PATH", help="The certificate, as PEM.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="PATH", help="Its private key, as PEM.")
    ] = None,
    plain_http: Annotated[
        bool, typer.Option("--plain-http", help="Allow HTTP without TLS off loopback.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log no requests.")] = False,
    as_json: Json = False,
) -> None:
    """Serve a lab over HTTP to the vendors' own clients.

    Tencent Cloud's on /, CTyun's under /v1/cmkManage/. One line on stdout says that the server is
    ready; requests are logged on stderr, one JSON object a line. SIGINT or SIGTERM ends it.
    """
    running = _extra()
    place = running.Place(host, port, tls_cert, tls_key, plain_http)
    regions = _regions(region or [])
    with running.listen(place) as listener, _lab(opening, demo=demo) as lab:
        url = running.url_of(place, listener)
        with _credential(lab, wanted=demo) as made:
            stopped = _run(
                lab,
                running,
                (place, listener),
                lambda: _tell(lab, url, made, as_json=as_json),
                options={"regions": regions, "rate_limit": not no_rate_limit, "quiet": quiet},
            )
    if stopped:
        raise typer.Exit(INTERRUPTED)


def _run(lab: Lab, running: Any, at: Any, ready: Any, *, options: dict[str, Any]) -> bool:
    """Serve; whether Ctrl-C ended it."""
    import signal

    from kmslab.clock import SystemClock
    from kmslab.server.app import make_app
    from kmslab.server.logs import JsonLog, libraries_logged

    log = JsonLog(sys.stderr, SystemClock(), quiet=options.pop("quiet"))
    try:
        with libraries_logged(log):
            application = make_app(lab, log=log, **options)
            stop = running.serve(application, *at, ready)
    finally:
        log.close()
    return bool(stop == signal.SIGINT)


def _extra() -> Any:
    from kmslab.errors import SettingError

    try:
        from kmslab.server import running
    except ModuleNotFoundError as error:
        raise SettingError(
            f"kmslab serve needs the extra `server` ({error.name} is not installed): "
            "pip install 'kmslab[server]'"
        ) from None
    return running


def _regions(given: list[str]) -> dict[str, list[str]]:
    from kmslab.errors import SettingError
    from kmslab.model import CTYUN, TENCENT

    found: dict[str, list[str]] = {TENCENT: [], CTYUN: []}
    for each in given:
        provider, _, name = each.partition(":")
        if provider not in found or not name:
            raise SettingError(f"--region is tencent:NAME or ctyun:NAME, not {each}")
        found[provider].append(name)
    return found


@contextmanager
def _lab(opening: Opening, *, demo: bool) -> Iterator[Lab]:
    if opening.path is not None or not demo:
        with opening() as lab:
            yield lab
        return
    from kmslab.demo import make_lab
    from kmslab.lab import Lab

    with tempfile.TemporaryDirectory(prefix="kmslab-serve-") as directory:
        path = Path(directory) / "lab"
        make_lab(path).close()
        narrate("serving the demo lab, which is gone afterwards")
        with Lab.open(path) as lab:
            yield lab


@contextmanager
def _credential(lab: Lab, *, wanted: bool) -> Iterator[NewCredential | None]:
    """A credential that may do everything as long as the server runs, where one is wanted."""
    if not wanted:
        yield None
        return
    taken = {c.name for c in lab.credentials.list() if c.revoked_at is None}
    number = next(n for n in range(1, len(taken) + 2) if f"{_DEMO}-{n}" not in taken)
    made = lab.credentials.create(f"{_DEMO}-{number}")
    try:
        yield made
    except BaseException as error:
        with after(error, "revoking the credential"):
            lab.credentials.revoke(made.credential.secret_id)
        raise
    lab.credentials.revoke(made.credential.secret_id)


def _tell(lab: Lab, url: str, made: NewCredential | None, *, as_json: bool) -> None:
    """Say that the server is ready, and to whom."""
    from kmslab.server.clients import pointing

    secret = None if made is None else made.secret_key.expose().decode("ascii")
    if as_json:
        told: dict[str, Any] = {"url": url, "lab": lab.info().path}
        if made is not None and secret is not None:
            identity = {"secret_id": made.credential.secret_id, "secret_key": secret}
            told |= {**identity, "clients": pointing(url, **identity)}
        write_json(told)
    else:
        write_line(f"serving {lab.info().path} on {url}")
        if made is not None and secret is not None:
            write_line(f"secret_id   {made.credential.secret_id}\nsecret_key  {secret}")
            for name, lines in pointing(url, made.credential.secret_id, secret).items():
                write_line(f"\n# {name}\n" + "\n".join(lines))
    sys.stdout.flush()
