"""From what a provider answers to what goes over the wire, whatever happens on the way."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kmslab.errors import InternalError, KmsError

OK: Final = "OK"

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(slots=True)
class Known:
    """What is known of a request so far, for its answer and for the log.

    `claimed` is the secret id that a request names, proven or not. `language` is that of messages
    where a provider has several, `problem` what was wrong with the lab or with kmslab.
    """

    action: str = ""
    caller: str = ""
    claimed: str = ""
    request_id: str = ""
    language: str = ""
    problem: str = ""


Envelope = dict[str, Any]


def envelope_of(
    known: Known, make: Callable[[], Envelope], refuse: Callable[[KmsError], Envelope]
) -> Envelope:
    """The envelope that is made, or that of the refusal. What nobody foresaw is an InternalError,
    and noted as the problem."""
    try:
        return make()
    except KmsError as error:
        return refuse(error)
    except Exception as error:
        known.problem = problem_of(error)
        return refuse(InternalError(""))


def encoded(envelope: Envelope) -> bytes:
    """An envelope as JSON in ASCII, which a text with half a surrogate pair cannot break."""
    return _ENCODE(envelope).encode("ascii")


def problem_of(error: Exception) -> str:
    """The kind of an unexpected error and where it arose; its text may hold anything.

    >>> problem_of(ValueError("secret"))
    'ValueError'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
