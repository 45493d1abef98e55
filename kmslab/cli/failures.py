"""What an error becomes: a line or a JSON object on stderr, and an exit code.

`--json` gives `{"error": {"code", "message", "request_id", "explanation", "campaign"}}`. The code
is the provider's where a provider refused, else the name of the error in `kmslab.errors`; the
campaign is the one that the error has to do with.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Final

from kmslab.cli import INTERRUPTED
from kmslab.cli.output import json_text, narrate
from kmslab.errors import (
    CampaignInterrupted,
    CampaignState,
    DecryptFailed,
    InvalidCiphertext,
    KmsError,
    KmslabError,
    LabBusy,
    LabUnreachable,
    PlanOutdated,
    RetireRefused,
    Retryable,
    SourceBusy,
    SourceChanged,
)

REFUSED: Final = 1
USAGE: Final = 2
RETRYABLE: Final = 3
BUG: Final = 70
"""An error that nobody foresaw."""

# Not what was asked for is wrong, but how things stand.
_REFUSALS: Final = (CampaignState, PlanOutdated, RetireRefused, SourceBusy, SourceChanged)
# Another process or the network stands in the way, and nothing was changed.
_PASSING: Final = (LabBusy, LabUnreachable)
_TOLD: Final = {RETRYABLE: "refused, try again", INTERRUPTED: "interrupted"}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told."""

    exit_code: int
    code: str
    message: str
    request_id: str | None = None
    explanation: str | None = None
    campaign: str | None = None
    refused: bool = True
    """Whether somebody refuses what may be done at another time; else something is wrong."""

    def explained(self, *texts: str) -> Failure:
        """The same with more explanation, a line for each of these texts."""
        given = (self.explanation, *texts)
        return replace(self, explanation="\n".join(filter(None, given)) or None)

    def as_text(self) -> str:
        """One line, and the explanation on the next ones."""
        line = self._line()
        return f"{line}\n{self.explanation}" if self.explanation else line

    def _line(self) -> str:
        if self.exit_code in (USAGE, BUG) or not self.refused:
            return f"error: {self.message}"
        told = _TOLD.get(self.exit_code, "refused")
        request = f" (request {self.request_id})" if self.request_id else ""
        # That a campaign was interrupted is said already.
        code = "" if self.exit_code == INTERRUPTED else f"{self.code}: "
        return f"{told}: {code}{self.message}{request}"


class Refused(Exception):
    """A provider's refusal, with the provider's code."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@contextmanager
def answers(provider: str, action: str, explain: Callable[[], str] | None = None) -> Iterator[None]:
    """Give what a provider refuses inside the code that `action` has for it.

    `explain` tells the owner of the lab more of a ciphertext; it is asked only where the provider
    refuses one without saying why.
    """
    try:
        yield
    except KmsError as error:
        code = import_module(f"kmslab.providers.{provider}.codes").code_of(error, action)
        opaque = isinstance(error, (InvalidCiphertext, DecryptFailed))
        explanation = explain() if opaque and explain is not None else None
        raise Refused(_refusal(error, code, explanation)) from error


def report(error: Exception, *, as_json: bool = False) -> int:
    """Tell of an error on stderr; the exit code for it."""
    failure = failure_of(error)
    if failure.exit_code == BUG and os.environ.get("KMSLAB_TRACEBACK") == "1":
        traceback.print_exception(error)
    elif as_json:
        told = {
            "code": failure.code,
            "message": failure.message,
            "request_id": failure.request_id,
            "explanation": failure.explanation,
            "campaign": failure.campaign,
        }
        print(json_text({"error": told}), file=sys.stderr)
    else:
        narrate(failure.as_text())
    return failure.exit_code


def interrupted(error: CampaignInterrupted, hint: str | None = None) -> Failure:
    """A campaign that was stopped, by somebody or by what does not answer."""
    code = INTERRUPTED if error.error is None else RETRYABLE
    request_id = error.error.request_id or None if isinstance(error.error, KmsError) else None
    campaign = error.campaign_id or None
    return Failure(code, type(error).__name__, str(error), request_id, hint, campaign)


def failure_of(error: Exception) -> Failure:
    """How an error is told, with what failed after it."""
    return _failure(error).explained(*getattr(error, "__notes__", ()))


def _failure(error: Exception) -> Failure:
    match error:
        case Refused():
            return error.failure
        case KmsError():
            return _refusal(error, type(error).__name__, None)
        case CampaignInterrupted():
            return interrupted(error)
        case KmslabError() if isinstance(error, _REFUSALS):
            return Failure(REFUSED, type(error).__name__, str(error))
        case KmslabError() if isinstance(error, _PASSING):
            return Failure(RETRYABLE, type(error).__name__, str(error), refused=False)
        case KmslabError():
            return Failure(USAGE, type(error).__name__, str(error))
        case OSError():
            place = f"{error.filename}: " if error.filename else ""
            return Failure(USAGE, type(error).__name__, f"{place}{error.strerror or error}")
        case _:
            return _bug(error)


def _refusal(error: KmsError, code: str, explanation: str | None) -> Failure:
    exit_code = RETRYABLE if isinstance(error, Retryable) else REFUSED
    return Failure(exit_code, code, str(error), error.request_id or None, explanation)


def _bug(error: Exception) -> Failure:
    # The error's own text may hold anything, so only its kind and place are told.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return Failure(
        BUG,
        type(error).__name__,
        f"unexpected {type(error).__name__}{place}; "
        "KMSLAB_TRACEBACK=1 kmslab ... shows how it came about",
    )
