"""Other processes on a lab, forked from one that has kmslab loaded.

Listens on a socket, and forks a process for each connection. A servant is given the lab's path,
says its own process id, reads commands, one a line, says what came of each, and closes the lab
where its input ends. A program is announced by "!", which comes with where it writes; it is given
its script and arguments, its process id is said, and at its end its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable

import lab_stores
import pytest
from compiled_once import engines_alike

from kmslab import Lab
from kmslab.errors import KmslabError
from kmslab.keystore import sqlite


def main(place: str) -> list[str]:
    """Serve until killed; in a process that is to be a program, gives its script and arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    warm_up()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(place)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    if connection.recv(1, socket.MSG_PEEK) == b"!":
                        return program(connection)
                    serve(connection)
                    os._exit(0)


def warm_up() -> None:
    """Have what every lab needs loaded and compiled."""
    sqlite.create_engine = engines_alike()  # type: ignore[assignment]
    lab_stores.use(pytest.MonkeyPatch())
    with Lab.in_memory() as lab:
        kms = lab.tencent()
        key_id = kms.create_key("orders").key_id
        kms.decrypt(kms.encrypt(key_id, b"plain"))
        lab.rotate(key_id)
        lab.audit.verify()


def program(connection: socket.socket) -> list[str]:
    """Returns in the process that is to be the program; the one that waits for it ends here."""
    _, outputs, _, _ = socket.recv_fds(connection, 1, 2)
    with connection.makefile() as lines:
        content: list[str] = json.loads(lines.readline())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        connection.sendall(f"{child}\n".encode())
        for output in outputs:
            os.close(output)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(f"{code}\n".encode())
        os._exit(0)
    for number, output in enumerate(outputs, 1):
        os.dup2(output, number)
        os.close(output)
    return content


def serve(connection: socket.socket) -> None:
    with connection.makefile("rw", buffering=1) as lines, Lab.open(lines.readline()[:-1]) as lab:
        lines.write(f"{os.getpid()}\n")
        for line in lines:
            lines.write(answer(lab, *line[:-1].split("\t")) + "\n")


def answer(lab: Lab, command: str, *args: str) -> str:
    """What a command gives, or the name of the error."""
    try:
        return COMMANDS[command](lab, *args) or "done"
    except KmslabError as error:
        return type(error).__name__


def primary(lab: Lab, key_id: str) -> str:
    return lab.key(key_id).primary_version_id or ""


def encrypt(lab: Lab, key_id: str, count: str = "1") -> str:
    kms = lab.tencent()
    return [kms.encrypt(key_id, b"plain") for _ in range(int(count))][-1]


def rotate_many(lab: Lab, key_id: str, count: str) -> str:
    return [lab.rotate(key_id).primary_version_id or "" for _ in range(int(count))][-1]


def as_credential(lab: Lab, name: str, key_id: str) -> str:
    return lab.tencent(credential=name).encrypt(key_id, b"plain")


def rekey(lab: Lab) -> None:
    lab.rekey()


COMMANDS: dict[str, Callable[..., str | None]] = {
    "create": lambda lab, alias: lab.tencent().create_key(alias).key_id,
    "encrypt": encrypt,
    "as": as_credential,
    "decrypt": lambda lab, blob: bytes(lab.tencent().decrypt(blob)).decode(),
    "rotate": lambda lab, key_id: lab.rotate(key_id).primary_version_id,
    "rotate_many": rotate_many,
    "primary": primary,
    "state": lambda lab, key_id: lab.key(key_id).state.value,
    "disable": lambda lab, key_id: lab.tencent().disable_key(key_id).state.value,
    "enable": lambda lab, key_id: lab.tencent().enable_key(key_id).state.value,
    "schedule": lambda lab, key_id: lab.tencent().schedule_key_deletion(key_id, 7).state.value,
    "rekey": rekey,
    "set": lambda lab, name, value: lab.settings.set(name, value),
    "revoke": lambda lab, name: lab.credentials.revoke(name).name,
    "audit": lambda lab: str(lab.audit.verify().intact),
}

if __name__ == "__main__":
    script, *arguments = main(sys.argv[1])
    sys.argv = ["-c", *arguments]
    exec(compile(script, "-c", "exec"), {"__name__": "__main__"})
