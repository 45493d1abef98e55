"""What is said between a campaign and its workers: orders one way, endings the other, as JSON.

An order says what to do, where the lab is and in which folder to write; never key material, a
password, a blob or a context. What all workers of a run are to know stands in that folder. An
ending has counts, names and messages.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import kmslab.errors
from kmslab import __version__
from kmslab.analysis.classify import Target
from kmslab.campaign.plan import Options, target_as_dict, target_from_dict
from kmslab.campaign.reopening import Reopening
from kmslab.campaign.tasks import Task
from kmslab.errors import CampaignError, KmsError, KmslabError, Throttled
from kmslab.records.spec import SourceSpec


class Kind(StrEnum):
    """What a worker is to do."""

    CHECK = "check"
    """See whether the lab, the state folder and the source are what they are for the campaign."""
    PLAN = "plan"
    """Read a task's records, and say what would become of them."""
    RUN = "run"
    """Re-encrypt a task's records."""
    COUNT = "count"
    """Read a task's records anew, for the census after."""


@dataclass(frozen=True, slots=True)
class Order:
    """One thing that a worker is to do.

    `version` is that of kmslab, and `run` the name of the run of the campaign that gives the order.
    `seen` is what a check compares with.
    """

    kind: Kind
    version: str
    reopening: Reopening
    state: str
    campaign: str = ""
    run: str = ""
    task: Task | None = None
    spec: SourceSpec | None = None
    seen: Mapping[str, Any] | None = None

    def as_text(self) -> str:
        """The order as it is sent."""
        return json.dumps(
            {
                "kind": self.kind.value,
                "version": self.version,
                "reopening": self.reopening.as_dict(),
                "state": self.state,
                "campaign": self.campaign,
                "run": self.run,
                "task": None if self.task is None else self.task.as_dict(),
                "spec": None if self.spec is None else self.spec.as_dict(),
                "seen": self.seen,
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_text(cls, text: str) -> Order:
        """The order that was sent. CampaignError where another version of kmslab has sent it."""
        values = json.loads(text)
        here = own_version()
        if values["version"] != here:
            raise CampaignError(
                f"kmslab {here} is installed there, and the campaign is run by kmslab "
                f"{values['version']}: install the same version on all machines"
            )
        task, spec = values["task"], values["spec"]
        return cls(
            kind=Kind(values["kind"]),
            version=here,
            reopening=Reopening(**values["reopening"]),
            state=values["state"],
            campaign=values["campaign"],
            run=values["run"],
            task=None if task is None else Task.from_dict(task),
            spec=None if spec is None else SourceSpec.from_dict(spec),
            seen=values["seen"],
        )


def own_version() -> str:
    """The version of kmslab that is installed here."""
    return __version__


@dataclass(frozen=True, slots=True)
class Brief:
    """What all workers of a run are to know."""

    spec: SourceSpec
    target: Target
    options: Options

    def as_dict(self) -> dict[str, Any]:
        """The brief as JSON takes it."""
        return {
            "spec": self.spec.as_dict(),
            "target": target_as_dict(self.target),
            "options": self.options.as_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Brief:
        """The brief that `as_dict` gave."""
        return cls(
            SourceSpec.from_dict(values["spec"]),
            target_from_dict(values["target"]),
            Options.from_dict(values["options"]),
        )

    def with_rates(self, rates: Mapping[str, float]) -> Brief:
        """The same with other rates."""
        return replace(self, options=replace(self.options, rates=rates))


# Outcomes


@dataclass(frozen=True, slots=True)
class Ending:
    """How an order ended: it was carried out and found `found`; or it was stopped before its end,
    by somebody or by what a provider answered (`error`); or it was refused (`refused`)."""

    found: Mapping[str, Any] | None = None
    error: KmsError | None = None
    refused: KmslabError | None = None

    @property
    def stopped(self) -> bool:
        """Whether it may be begun again."""
        return self.found is None and self.refused is None

    def as_text(self) -> str:
        """The ending as it is sent."""
        return json.dumps(
            {
                "found": self.found,
                "error": None if self.error is None else _error_as_dict(self.error),
                "refused": None if self.refused is None else _error_as_dict(self.refused),
            },
            ensure_ascii=False,
        )

    @classmethod
    def from_text(cls, text: str) -> Ending:
        """The ending that was sent.

        >>> from kmslab.errors import Throttled
        >>> sent = Ending(error=Throttled("later", retry_after=2.5)).as_text()
        >>> error = Ending.from_text(sent).error
        >>> error, error.retry_after
        (Throttled('later'), 2.5)
        """
        values = json.loads(text)
        error, refused = values["error"], values["refused"]
        return cls(
            values["found"],
            None if error is None else _kms_error(error),
            None if refused is None else _error(refused),
        )


def _error_as_dict(error: KmslabError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": str(error),
        "request_id": getattr(error, "request_id", ""),
        "code": getattr(error, "code", ""),
        "retry_after": getattr(error, "retry_after", 0.0),
    }


def _error(values: Mapping[str, Any]) -> KmslabError:
    found = getattr(kmslab.errors, values["type"], None)
    kind = found if isinstance(found, type) and issubclass(found, KmslabError) else CampaignError
    error = kind(values["message"])
    if isinstance(error, KmsError):
        error.request_id, error.code = values["request_id"], values["code"]
    if isinstance(error, Throttled):
        error.retry_after = values["retry_after"]
    return error


def _kms_error(values: Mapping[str, Any]) -> KmsError:
    error = _error(values)
    return error if isinstance(error, KmsError) else KmsError(str(error))


def unforeseen(error: Exception) -> CampaignError:
    """An error that nobody foresaw, as it may be sent: its own text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return CampaignError(f"unexpected {type(error).__name__}{place}")
