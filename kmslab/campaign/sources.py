"""The registered sources, and the holds: where ciphertexts are, and where nobody can look.

A key may be retired only when a census of every registered source finds nothing on it, and no hold
stands. A hold names what cannot be scanned: a backup, a replica, a colleague's laptop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from kmslab.campaign.state import State
from kmslab.clock import Clock, SystemClock
from kmslab.errors import CampaignError, StateError
from kmslab.records.opening import absolute
from kmslab.records.spec import SourceSpec

SOURCES_FILE: Final = "sources.json"
FORMAT: Final = 1
NAME_LETTERS: Final = 64
"""The longest name of a source or hold."""


@dataclass(frozen=True, slots=True)
class RegisteredSource:
    """A source that must be looked at before a key is retired."""

    name: str
    spec: SourceSpec
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """What cannot be looked at, and why it matters; for one key, or for all (None)."""

    name: str
    reason: str
    since: datetime
    key_id: str | None = None

    def covers(self, key_id: str) -> bool:
        """Whether this key must not be retired while the hold stands."""
        return self.key_id is None or self.key_id == key_id


@dataclass(frozen=True, slots=True)
class _Registered:
    """All that the file says."""

    sources: tuple[RegisteredSource, ...] = ()
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """The registered sources and the holds of a state folder; several processes may change them.

    >>> sources = Sources(State.of(getfixture("tmp_path"), None))
    >>> sources.add("orders", SourceSpec("/data/orders.csv")).spec.location
    '/data/orders.csv'
    >>> _ = sources.hold("tapes", "monthly backups, kept for a year")
    >>> [source.name for source in sources.all()], [hold.name for hold in sources.holds()]
    (['orders'], ['tapes'])
    >>> sources.forget("orders")
    >>> sources.release("tapes")
    """

    state: State
    clock: Clock = field(default_factory=SystemClock)

    def add(self, name: str, spec: SourceSpec) -> RegisteredSource:
        """Register a source; its location is made absolute.

        CampaignError for a name that is taken, and for a source that is registered already.
        SourceError for a location with a password.
        """
        made = RegisteredSource(_checked(name, "source"), absolute(spec), self.clock.now())

        def added(found: _Registered) -> _Registered:
            for other in found.sources:
                if other.name == name:
                    raise CampaignError(
                        f"a source {name!r} is registered already: {other.spec.location}; "
                        f"choose another name, or first `kmslab source forget` this one"
                    )
                if other.spec == made.spec:
                    raise CampaignError(
                        f"{made.spec.location} is registered already, as {other.name!r}"
                    )
            return replace(found, sources=(*found.sources, made))

        self._change(added)
        return made

    def all(self) -> Sequence[RegisteredSource]:
        """The registered sources, in the order in which they were added."""
        return self._read().sources

    def get(self, name: str) -> RegisteredSource:
        """The source of this name; CampaignError where there is none."""
        sources = self.all()
        _require(name, sources, "source")
        return next(source for source in sources if source.name == name)

    def forget(self, name: str) -> None:
        """Take a source out; CampaignError where there is none of this name."""

        def without(found: _Registered) -> _Registered:
            _require(name, found.sources, "source")
            return replace(found, sources=tuple(s for s in found.sources if s.name != name))

        self._change(without)

    def hold(self, name: str, reason: str, key_id: str | None = None) -> Hold:
        """Name what cannot be scanned; with `key_id` only that key is held.

        CampaignError for a name that another hold has, and without a reason.
        """
        if not reason.strip():
            raise CampaignError(f"hold {name!r}: say what it stands for, and until when")
        made = Hold(_checked(name, "hold"), reason, self.clock.now(), key_id)

        def held(found: _Registered) -> _Registered:
            if any(other.name == name for other in found.holds):
                raise CampaignError(f"a hold {name!r} stands already; choose another name")
            return replace(found, holds=(*found.holds, made))

        self._change(held)
        return made

    def release(self, name: str) -> None:
        """Take a hold away; CampaignError where there is none of this name."""

        def without(found: _Registered) -> _Registered:
            _require(name, found.holds, "hold")
            return replace(found, holds=tuple(h for h in found.holds if h.name != name))

        self._change(without)

    def holds(self) -> Sequence[Hold]:
        """The holds that stand, oldest first."""
        return self._read().holds

    def _change(self, change: Callable[[_Registered], _Registered]) -> None:
        with self.state.updating(SOURCES_FILE):
            self.state.write_json(SOURCES_FILE, _as_json(change(self._read())))

    def _read(self) -> _Registered:
        found = self.state.read_json(SOURCES_FILE)
        if found is None:
            return _Registered()
        path = self.state.path / SOURCES_FILE
        try:
            if found["format"] > FORMAT:
                raise StateError(
                    f"{path} was written by a newer kmslab (format {found['format']}; this one "
                    f"reads {FORMAT}); use that one"
                )
            return _from_json(found)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StateError(
                f"{path} is damaged; restore it from a backup, or move it away and register the "
                "sources and holds again"
            ) from None


def _as_json(registered: _Registered) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "sources": [
            {
                "name": source.name,
                "spec": source.spec.as_dict(),
                "added_at": source.added_at.isoformat(),
            }
            for source in registered.sources
        ],
        "holds": [{**asdict(hold), "since": hold.since.isoformat()} for hold in registered.holds],
    }


def _from_json(found: dict[str, Any]) -> _Registered:
    return _Registered(
        sources=tuple(
            RegisteredSource(
                entry["name"],
                SourceSpec.from_dict(entry["spec"]),
                datetime.fromisoformat(entry["added_at"]),
            )
            for entry in found["sources"]
        ),
        holds=tuple(
            Hold(**{**entry, "since": datetime.fromisoformat(entry["since"])})
            for entry in found["holds"]
        ),
    )


def _checked(name: str, what: str) -> str:
    if not 1 <= len(name) <= NAME_LETTERS or not name.isprintable() or name != name.strip():
        raise CampaignError(
            f"{name[:NAME_LETTERS]!r} is no name of a {what}: 1 to {NAME_LETTERS} letters that "
            "can be printed, with no space at either end"
        )
    return name


def _require(name: str, found: Iterable[RegisteredSource | Hold], what: str) -> None:
    names = [each.name for each in found]
    if name not in names:
        listed = ", ".join(map(repr, names[:30])) or "none"
        raise CampaignError(f"there is no {what} {name!r}; there are: {listed}")
