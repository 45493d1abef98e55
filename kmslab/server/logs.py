"""Logs as one JSON object a line, written by a thread of their own.

A reader that does not read holds up its own lines, and no request: when too many wait, further
ones are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Final, TextIO

from kmslab.clock import Clock

MOST_WAITING: Final = 10_000
CLOSE_SECONDS: Final = 2.0
"""How long the end waits for the last lines to be taken."""


class JsonLog:
    """Writes each event as a line of JSON with its time in UTC.

    A quiet one leaves out the requests that found nothing wrong with the lab.
    """

    def __init__(self, stream: TextIO, clock: Clock, *, quiet: bool = False) -> None:
        self.dropped = 0
        self._quiet = quiet
        self._stream = stream
        self._clock = clock
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._thread = Thread(target=self._write, name="kmslab log", daemon=True)
        self._thread.start()

    def __call__(self, event: str, **fields: object) -> None:
        """Log an event; fields that are empty are left out."""
        now = datetime.fromtimestamp(self._clock.time(), UTC)
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {name: value for name, value in fields.items() if value not in ("", None)}
        try:
            self._lines.put_nowait(json.dumps({"time": stamp, "event": event, **said}) + "\n")
        except queue.Full:
            self.dropped += 1

    def request(self, **fields: object) -> None:
        """Log a request that was answered."""
        if not self._quiet or fields.get("problem"):
            self("request", **fields)

    def close(self) -> None:
        """Write what waits, unless nobody takes it."""
        try:
            self._lines.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            return
        self._thread.join(CLOSE_SECONDS)

    def _write(self) -> None:
        while True:
            lines = [self._lines.get()]
            while lines[-1] is not None and len(lines) < 1000:
                try:
                    lines.append(self._lines.get_nowait())
                except queue.Empty:
                    break
            try:
                self._stream.write("".join(line for line in lines if line))
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += sum(line is not None for line in lines)
            if lines[-1] is None:
                return


class _Forward(logging.Handler):
    """Gives what uvicorn and asyncio log to a JsonLog: constant texts, and kinds of errors."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, without the values in it, which may hold anything."""
        kind = record.exc_info[0] if record.exc_info else None
        self._log(
            record.name,
            level=record.levelname,
            message=str(record.msg).strip().partition("\n")[0],
            problem=kind.__name__ if kind else "",
        )


@contextmanager
def libraries_logged(log: JsonLog) -> Iterator[None]:
    """Have what the libraries under the server log come out as lines of JSON too."""
    handler = _Forward(log)
    loggers = [logging.getLogger(name) for name in ("uvicorn", "asyncio")]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate
