"""What has to be done at the end, also after an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kmslab.errors import KmslabError


@contextmanager
def after(error: BaseException | None, what: str) -> Iterator[None]:
    """Do `what` at the end of something that has raised `error`, or has raised nothing.

    Where this fails too, an error of kmslab's, or one that was made of it, stays what is raised:
    it says what became of what was asked for, above all that a change may have been made. What
    came after it is a note on it. After any other error, or none, the failure itself is raised.

    >>> from kmslab.errors import LabUncertain, LabUnreachable
    >>> first = LabUncertain("it may have been made or not")
    >>> with after(first, "leaving the lab"):
    ...     raise LabUnreachable("the database does not answer")
    >>> first.__notes__
    ['leaving the lab failed too: the database does not answer']
    """
    try:
        yield
    except KmslabError as failure:
        if error is None or not _of_kmslab(error):
            raise
        error.add_note(f"{what} failed too: {failure}")


def _of_kmslab(error: BaseException) -> bool:
    return any(isinstance(each, KmslabError) for each in (error, error.__cause__))
