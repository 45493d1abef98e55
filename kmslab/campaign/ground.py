"""What a campaign stands on: whom to ask, where to remember, what time it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kmslab.campaign.state import State
from kmslab.clock import Clock
from kmslab.providers.base import Providers
from kmslab.records.opening import open_source
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class Ground:
    """What a campaign stands on: whom to ask, where to remember, what time it is.

    `remotes` names the profiles that `providers` are of; none for a lab.
    """

    providers: Providers
    state: State
    clock: Clock
    jitter: Callable[[], float] = random.random
    open_source: Callable[[SourceSpec], Source] = open_source
    remotes: tuple[str, ...] = ()
