"""Whether a worker sees what the campaign sees: the same lab, state folder and source.

It may be on another machine, where the same path leads elsewhere. It is asked before anything is
begun, and says what it sees.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.ground import Ground
from kmslab.campaign.orders import Order
from kmslab.campaign.state import State, write_private
from kmslab.errors import CampaignError
from kmslab.records.source import Recognisable, Source

_OLD_SECONDS: Final = 3600.0
"""How long no check lasts."""
_TICK_NS: Final = 1_000_000_000
"""How exactly file systems, and what shares them, agree on times."""


@contextmanager
def to_be_seen(state: State, source: Source) -> Iterator[Mapping[str, Any]]:
    """What a worker is to see as long as this lasts: a file in the state folder, and a source."""
    name = f"seen-{secrets.token_hex(8)}"
    text = secrets.token_hex(8)
    path = state.campaigns_path() / name
    _remove_old(path.parent)
    try:
        write_private(path, text)
        with source.marked() if isinstance(source, Recognisable) else nullcontext() as mark:
            yield {"file": name, "text": text, "mark": mark, **_seen(source)}
    finally:
        with suppress(OSError):  # what is left is removed by a later check
            path.unlink(missing_ok=True)


def _remove_old(folder: Path) -> None:
    """Remove what those have left who were killed."""
    for path in folder.glob("seen-*"):
        with suppress(OSError):
            if time.time() > path.stat().st_mtime + _OLD_SECONDS:
                path.unlink()


def check(ground: Ground, order: Order) -> Mapping[str, Any]:
    """See whether everything is as it is for the campaign. CampaignError says what is not."""
    if order.seen is None or order.spec is None:
        raise CampaignError("a check without anything to compare with")
    seen = dict(order.seen)
    path = ground.state.path / "campaigns" / seen.pop("file")
    try:
        there = path.read_text("ascii") == seen.pop("text")
    except OSError:
        there = False
    if not there:
        raise CampaignError(
            f"the state folder {ground.state.path} is another one there: have it on a file system "
            "that all machines share, under the same path, and name it with --state"
        )
    mark, source = seen.pop("mark"), ground.open_source(order.spec)
    same = _seen(source) == seen
    if same and isinstance(source, Recognisable):
        same = source.carries(mark)
    if not same:
        raise CampaignError(
            f"{order.spec.location} is not there what it is for the campaign: have all machines "
            "read the same files or database"
        )
    return {}


def _seen(source: Source) -> dict[str, Any]:
    parts = "\0".join(f"{part.name}\0{_file(part.name)}" for part in source.parts)
    return {
        "source": source.name,
        "fields": sorted(source.fields),
        "parts": hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest(),
        "first": next((part.fingerprint() for part in source.parts), ""),
    }


def _file(name: str) -> str:
    """What tells a file from its copy on another machine, by whatever way it is looked at: its
    size, and the second in which it was changed last, which no copy keeps."""
    try:
        status = Path(name).stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_ctime_ns // _TICK_NS}"
