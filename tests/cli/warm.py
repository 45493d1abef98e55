"""The command line in processes of its own, without Python being started anew for each.

As a program: `warm.py serve SOCKET` loads everything once and then runs each command in a forked
child, with the streams of whoever asks; `warm.py run SOCKET ARGS` asks it, and is what a shell can
have as `kmslab`. What is told of a child is its pid, and at its end its status.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys

STREAMS = ("<", ">", "2>")
"""The streams of a command: its stdin, stdout and stderr."""


def ask(
    path: str,
    args: list[str],
    streams: dict[str, int],
    *,
    terminal: bool = False,
    before: str = "",
) -> tuple[socket.socket, int]:
    """Have the command line run here and now: where its end is told, and its pid.

    A stream that is not given is closed. With `terminal` its stdin is the terminal of its session.
    `before` is Python that it runs first.
    """
    told = socket.socket(socket.AF_UNIX)
    told.connect(path)
    job = (args, list(streams), os.getcwd(), dict(os.environ), terminal, before)  # noqa: PTH109
    text = marshal.dumps(job)
    socket.send_fds(told, [len(text).to_bytes(4, "big")], list(streams.values()))
    told.sendall(text)
    return told, _number(told)


def ended(told: socket.socket) -> int:
    """Wait for the end of a command: its exit code, or the negative number of a signal."""
    with told:
        return os.waitstatus_to_exitcode(_number(told))


def _number(told: socket.socket) -> int:
    return int.from_bytes(_read(told, 4), "big")


def _read(told: socket.socket, size: int) -> bytes:
    text = b""
    while len(text) < size:
        more = told.recv(size - len(text))
        if not more:
            raise EOFError("the warm process is gone")
        text += more
    return text


def _serve(path: str) -> None:
    """Answer until stdin ends. Returns in a child, once it is as a fresh process would be."""
    import gc
    import select
    import signal
    import warnings

    running: dict[int, socket.socket] = {}

    def reap(*_: object) -> None:
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with running.pop(pid) as told:
                told.sendall(status.to_bytes(4, "big"))

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, reap)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # what is loaded need not be looked through at the end of each child
    print("ready", flush=True)
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            for pid in list(running):
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        told, _ = listener.accept()
        size, fds, _, _ = socket.recv_fds(told, 4, len(STREAMS))
        job = marshal.loads(_read(told, int.from_bytes(size, "big")))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
            pid = os.fork()
        if pid == 0:
            for each in (listener, told, *running.values()):
                each.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            _become(fds, *job)
            return
        running[pid] = told
        told.sendall(pid.to_bytes(4, "big"))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for fd in fds:
            os.close(fd)


def _become(
    fds: list[int],
    args: list[str],
    given: list[str],
    directory: str,
    environment: dict[str, str],
    terminal: bool,
    before: str,
) -> None:
    """Be a process that was started with these streams."""
    streams = dict(zip(given, fds, strict=True))
    for number, name in enumerate(STREAMS):
        if name in streams:
            os.dup2(streams[name], number)
        else:
            os.close(number)
    for fd in fds:
        os.close(fd)
    os.setsid()
    if terminal:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, _stream(number) if STREAMS[number] in streams else None)
    sys.argv = ["kmslab", *args]
    exec(before)


def _stream(number: int) -> object:
    mode, errors = ("r", "w", "w")[number], ("strict", "strict", "backslashreplace")[number]
    line_by_line = 1 if number == 2 or os.isatty(number) else -1
    return open(number, mode, line_by_line, "utf-8", errors, closefd=False)


def _load() -> None:
    """Import what commands import while they run, and have one run."""
    from contextlib import redirect_stderr, suppress
    from importlib import import_module
    from io import StringIO

    from kmslab.cli.app import COMMANDS, app
    from kmslab.lab import Lab

    modules = [f"cli.{module}" for module, _ in COMMANDS.values()]
    modules += ["cli.campaign_shown", "cli.campaign_steps", "cli.data_calls", "cli.key_calls"]
    modules += ["campaign.closing", "campaign.proof", "campaign.rendering", "campaign.retire"]
    modules += ["campaign.run", "campaign.undo", "demo", "keystore.bundle", "server.app"]
    modules += ["records.parquet", "server.clients", "server.running"]
    for each in modules:
        import_module(f"kmslab.{each}")
    Lab.in_memory().close()
    with suppress(SystemExit), redirect_stderr(StringIO()):
        app(["census", "nowhere.csv", "--lab", "nowhere"], prog_name="kmslab")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", where]:
            _load()
            _serve(where)
            from kmslab.cli import main

            main()
        case ["run", where, *args]:
            code = ended(ask(where, args, dict(zip(STREAMS, range(3), strict=True)))[0])
            sys.exit(code if code >= 0 else 128 - code)
