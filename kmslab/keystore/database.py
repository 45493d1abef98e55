"""What a keystore asks of the database that its lab is in, whichever that is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection

from kmslab.keystore.state import LabRow

BUSY_SECONDS: Final = 20
"""How long a writer waits for another one."""


class Ear(Protocol):
    """How a process hears that another one has changed the lab."""

    @property
    def heard(self) -> Callable[[], object]:
        """Gives another value than before once somebody has committed a change of more than the
        audit log.

        Every call of a lab asks it first, in any thread. LabError where there is no answer.
        """
        ...

    @property
    def look_seconds(self) -> float:
        """How old what was read last may be at most, whatever was heard since."""
        ...


class Database(Protocol):
    """A lab's database: its transactions, and what is done in another way in each kind of it.

    What goes wrong in it is a LabError that names the lab and what to do.
    """

    @property
    def path(self) -> Path | None:
        """The lab's directory, where it has one."""
        ...

    @property
    def location(self) -> str | None:
        """What opens the lab again in another process: its directory, or its URL without the
        password; None in memory."""
        ...

    @property
    def secret_url(self) -> bool:
        """Whether it was opened by a URL with a password, which no other process is told."""
        ...

    @property
    def where(self) -> str:
        """The lab's place, for messages."""
        ...

    def listen(self) -> Ear | None:
        """The ear of this process; None where no other process can reach the lab."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the lab, and waits for no writer."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that no other writer is in the middle of: what it reads of the lab, once it
        has read the lab row, is what it is written over. Committed and durable in the end."""
        ...

    def unhurried(self, connection: Connection) -> None:
        """Say that what `writing` has begun works for long between its statements: whoever does it
        is not to be taken for gone."""
        ...

    def committed(self, lab: LabRow, *, audit_only: bool) -> object:
        """Let the others hear of what `writing` has committed; what this process has heard now.

        `lab` is the lab's row since then. Nobody need hear of what was only audited.
        """
        ...

    def erase(self) -> bool:
        """Rewrite the tables without what was deleted; whether nothing holds it any more.

        Nobody is waited for: False, or LabBusy, where another process holds an older state.
        """
        ...

    def begin_child(self) -> None:
        """After a fork, in the child: let go of the connections, which are the parent's."""
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...
