"""Saying what is waited for: a database that another program has locked answers late.

SQLAlchemy tells when a statement is handed to a database and when its answer is there. What takes
long in between is no work of ours.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from kmslab.cli.output import narrate

if TYPE_CHECKING:
    from sqlalchemy import Connection

AFTER_SECONDS: Final = 2.0
"""How long a database may take before somebody is told (lab's choice)."""

_LOOK_SECONDS: Final = 0.1


@contextmanager
def telling_waits(say: Callable[[str], None] = narrate) -> Iterator[None]:
    """On a terminal, say which database is waited for. `say` gets "" when the wait is over."""
    if not sys.stderr.isatty():
        yield
        return
    from sqlalchemy import Engine, event

    waits = _Waits(say)
    listeners: list[tuple[str, Callable[..., None]]] = [
        ("before_cursor_execute", waits.begin),
        ("after_cursor_execute", waits.end),
        ("handle_error", waits.end),
    ]
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    try:
        with waits.watched():
            yield
    finally:
        for name, listener in listeners:
            event.remove(Engine, name, listener)


class _Waits:
    """The statement that is being answered, and a thread that looks how long it takes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._over = threading.Event()
        self._since: tuple[float, str] | None = None
        self._told = False

    def begin(self, connection: Connection, *_: Any) -> None:
        """A statement goes to a database."""
        url = connection.engine.url
        name = url.database or "the database of the source"
        self._since = time.monotonic(), f"{name} on {url.host}" if url.host else name

    def end(self, *_: Any) -> None:
        """Its answer is there, or its refusal."""
        self._since = None
        if self._told:
            self._told = False
            self._say("")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look until this ends."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            since = self._since
            if since is None or self._told or time.monotonic() - since[0] < AFTER_SECONDS:
                continue
            self._told = True
            self._say(f"waiting for {since[1]}: another program may have it locked")
