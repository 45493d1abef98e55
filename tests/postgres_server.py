"""A PostgreSQL server of the tests' own: in a temporary directory, on loopback, for as long as the
process that started it lives."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

DEBIAN = Path("/usr/lib/postgresql")
STARTS_WITHIN = 30.0

# Becomes the server, as another user where one is given; it ends with whoever started it, however
# that one ends.
_BECOME = """
import ctypes, os, signal, sys
parent, user, group, *command = sys.argv[1:]
if user:
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""


def programs() -> Path | None:
    """The directory of PostgreSQL's own programs; None where there is none."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(DEBIAN.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


class Server:
    """A server on a free port, as a user without rights where the tests run as root.

    Nothing that it writes is made durable: it is asked to keep what a killed program of ours has
    committed, and not what a machine without power has. Only with `durable` may it be killed.
    """

    def __init__(self, place: Path, binaries: Path, *, durable: bool = False) -> None:
        self.place = place
        self.data = place / "data"
        self.port = free_port()
        self._binaries = binaries
        self._durable = durable
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        if self._user[0]:
            os.chown(place, *map(int, self._user))
        # --no-locale: texts are in the order of their code points, whatever this machine's locale
        self._run("initdb", "-A", "trust", "-U", "kmslab", "-E", "UTF8", "--no-locale", "--no-sync")

    def url(self, database: str = "postgres") -> str:
        """The URL of a database of it."""
        return f"postgresql://kmslab@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._process is None
        durable = "on" if self._durable else "off"
        command = [
            str(self._binaries / "postgres"),
            *("-D", str(self.data), "-p", str(self.port), "-k", ""),
            *("-c", "listen_addresses=127.0.0.1", "-c", "log_min_messages=fatal"),
            *("-c", f"fsync={durable}", "-c", f"full_page_writes={durable}"),
            *("-c", "max_connections=60", "-c", "shared_buffers=32MB"),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _BECOME, str(os.getpid()), *self._user, *command],
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        until = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    said = self.stop(signal.SIGQUIT)
                    raise RuntimeError(f"PostgreSQL did not start: {said}") from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> str:
        """End it, its clients' connections too: SIGINT cleanly, SIGQUIT as in a crash. Gives what
        it said of errors."""
        process, self._process = self._process, None
        if process is None:
            return ""
        process.send_signal(how)
        _, said = process.communicate(timeout=STARTS_WITHIN)
        return said.decode(errors="replace")

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it, and start it again on the same port."""
        self.stop(how)
        self.start()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a new, empty database, which is dropped in the end."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement, as the owner of all."""
        with closing(psycopg.connect(self.url(database), autocommit=True)) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "-D", str(self.data), *arguments]
        done = subprocess.run(
            [sys.executable, "-IS", "-c", _BECOME, str(os.getpid()), *self._user, *command],
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")


def _unprivileged() -> tuple[str, str]:
    """User and group that the server runs as where we are root, which it refuses."""
    if os.geteuid() != 0:
        return "", ""
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
            return str(user.pw_uid), str(user.pw_gid)
        except KeyError:
            continue
    raise RuntimeError("no user to run PostgreSQL as: neither postgres nor nobody is known")


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(binaries: Path, *, durable: bool = False) -> Iterator[Server]:
    """A server that has started, stopped and removed in the end."""
    place = Path(tempfile.mkdtemp(prefix="kmslab-postgres-"))
    try:
        server = Server(place, binaries, durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(place, ignore_errors=True)
