"""How many calls a campaign needs, and how long they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kmslab.analysis.classify import Outcome

DOCUMENTED_RATE: Final = 100.0
"""ReEncrypt calls a second, per region and credential.

Documented for Tencent (its ReEncrypt page). CTyun documents none: the same 100 is lab's choice.
"""


@dataclass(frozen=True, slots=True)
class ProviderForecast:
    """The calls to one provider, their rate (calls a second) and their time in seconds."""

    provider: str
    calls: int
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The calls of a campaign. Providers are called side by side, each at its own rate."""

    providers: tuple[ProviderForecast, ...]

    @property
    def calls(self) -> int:
        """All calls together."""
        return sum(each.calls for each in self.providers)

    @property
    def seconds(self) -> float:
        """The time of the slowest provider; 0.0 where there is nothing to call."""
        return max((each.seconds for each in self.providers), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The forecast as JSON takes it."""
        return {
            "calls": self.calls,
            "seconds": self.seconds,
            "providers": {
                each.provider: {"calls": each.calls, "rate": each.rate, "seconds": each.seconds}
                for each in self.providers
            },
        }


def forecast(
    calls_by_provider: Mapping[str, int], rate: float | Mapping[str, float] = DOCUMENTED_RATE
) -> Forecast:
    """How long so many calls take at `rate` calls a second: one for all, or one per provider.

    A provider without a rate of its own has the documented one. The time is calls / rate: the
    network is taken to keep up, and a first second's burst is not counted on. ValueError for a
    rate that is not above 0, a number of calls below 0, and a rate of a provider without calls.

    >>> plan = forecast({"tencent": 360_000, "ctyun": 1_000})
    >>> plan.seconds, plan.calls
    (3600.0, 361000)
    >>> forecast({"tencent": 360_000}, rate=50).seconds
    7200.0
    """
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(calls_by_provider, rate)
    if strange := sorted(set(rates) - set(calls_by_provider)):
        raise ValueError(f"a rate for {', '.join(strange)}, which is not called")
    return Forecast(
        tuple(
            _provider_forecast(provider, calls, rates.get(provider, DOCUMENTED_RATE))
            for provider, calls in calls_by_provider.items()
        )
    )


def _provider_forecast(provider: str, calls: int, rate: float) -> ProviderForecast:
    if not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"{provider}: a rate is more than 0 calls a second, not {rate}")
    if calls < 0:
        raise ValueError(f"{provider}: {calls} calls are less than none")
    return ProviderForecast(provider, calls, float(rate), calls / rate)


def calls_needed(outcomes: Mapping[Outcome, int]) -> int:
    """The calls for so many records of each outcome: one each for those that are sent.

    Equal (blob, context) pairs are sent once: count each pair once to have exact calls. What
    verification adds is not in it.

    >>> calls_needed({Outcome.STALE: 5, Outcome.MAY_CHANGE: 2, Outcome.CURRENT: 100})
    7
    """
    return sum(records for outcome, records in outcomes.items() if outcome.sent)
