"""Whether a worker sees what the campaign sees: the same lab, state folder and source.

It may be on another machine, where the same path leads elsewhere. It is asked before anything is
begun, and says what it sees.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kmslab.campaign.ground import Ground
from kmslab.campaign.orders import Order
from kmslab.campaign.state import State
from kmslab.errors import CampaignError
from kmslab.records.source import Source


@contextmanager
def to_be_seen(state: State, source: Source) -> Iterator[Mapping[str, Any]]:
    """What a worker is to see as long as this lasts: a file in the state folder, and a source."""
    name = f"seen-{secrets.token_hex(8)}"
    text = secrets.token_hex(8)
    path = state.campaigns_path() / name
    path.write_text(text, "ascii")
    try:
        yield {"file": name, "text": text, **_seen(source)}
    finally:
        path.unlink(missing_ok=True)


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
    if _seen(ground.open_source(order.spec)) != seen:
        raise CampaignError(
            f"{order.spec.location} is not there what it is for the campaign: have all machines "
            "read the same files or database"
        )
    return {}


def _seen(source: Source) -> dict[str, Any]:
    names = "\0".join(part.name for part in source.parts)
    return {
        "source": source.name,
        "fields": sorted(source.fields),
        "parts": hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest(),
        "first": next((part.fingerprint() for part in source.parts), ""),
    }
