"""Other processes on a lab: read commands, one a line, and say what came of each.

Listens on a socket, and forks a process for each connection, which is given the lab's path, says
its own process id, and closes the lab where its input ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable

from kmslab import Lab
from kmslab.errors import KmslabError


def main(place: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(place)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    listening.close()
                    serve(connection)
                    os._exit(0)


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
    "rekey": lambda lab: lab.rekey(),
    "set": lambda lab, name, value: lab.settings.set(name, value),
    "revoke": lambda lab, name: lab.credentials.revoke(name).name,
    "audit": lambda lab: str(lab.audit.verify().intact),
}

if __name__ == "__main__":
    main(sys.argv[1])
