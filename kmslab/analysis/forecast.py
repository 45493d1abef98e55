"""How many calls a campaign needs, and how long they take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kmslab.analysis.classify import Outcome
from kmslab.analysis.verify import Verify
from kmslab.model import TENCENT
from kmslab.providers.base import Providers

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
    """The calls of a campaign. Providers are called side by side, each at its own rate.

    That is so where their records are mixed; a source that has those of one behind those of the
    other takes as long as both together.
    """

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
    verification adds is not in it, nor what crosses to another provider: see `calls_by_action`.

    >>> calls_needed({Outcome.STALE: 5, Outcome.MAY_CHANGE: 2, Outcome.CURRENT: 100})
    7
    """
    return sum(records for outcome, records in outcomes.items() if outcome.sent)


Flow = tuple[str, str]
"""From one provider to another, or to the same one."""


def action_name(provider: str, action: str) -> str:
    """A call as the provider spells it, `action` being as Tencent does; rights have these names.

    >>> action_name("tencent", "ReEncrypt"), action_name("ctyun", "ReEncrypt")
    ('ReEncrypt', 'reEncrypt')
    """
    return action if provider == TENCENT else action[:1].lower() + action[1:]


def comparing(providers: Providers) -> frozenset[str]:
    """The providers whose Kms opens and compares in the re-encryption itself: labs do.

    >>> from types import SimpleNamespace
    >>> comparing(SimpleNamespace(providers=lambda: ()))
    frozenset()
    """
    names = providers.providers()
    return frozenset(name for name in names if providers.kms(name).capabilities.authenticate)


def usual_verify(providers: Providers) -> Verify:
    """How new blobs are verified unless somebody says: a lab opens each, and of a remote none is
    opened, since its plaintext would come here.

    >>> from types import SimpleNamespace
    >>> str(usual_verify(SimpleNamespace(providers=lambda: ())))
    'decrypt'
    """
    inside = comparing(providers) == frozenset(providers.providers())
    return Verify.DECRYPT if inside else Verify.ANSWER


def calls_by_action(
    flows: Mapping[Flow, int], verify: Verify, *, comparing: Collection[str] = ()
) -> dict[str, dict[str, int]]:
    """The calls of each provider by action, for so many pairs of each flow.

    Within a provider a pair is one re-encryption; where a new blob is opened, and the provider is
    none of `comparing`, both blobs are decrypted too. From one to another it is a decryption there
    and an encryption here, and a decryption here of each new blob that is opened. That is exact
    where every call succeeds and makes a new blob; an unchanged one is not opened.

    >>> calls_by_action({("tencent", "tencent"): 10, ("tencent", "ctyun"): 5}, Verify.DECRYPT)
    {'tencent': {'ReEncrypt': 10, 'Decrypt': 25}, 'ctyun': {'encrypt': 5, 'decrypt': 5}}
    """
    calls: dict[str, Counter[str]] = {}
    for (source, destination), pairs in flows.items():
        opened = verify.opened(pairs)
        if source != destination:
            steps = [(source, "Decrypt", pairs), (destination, "Encrypt", pairs)]
            steps.append((destination, "Decrypt", opened))
        else:
            steps = [(source, "ReEncrypt", pairs)]
            steps.append((source, "Decrypt", 0 if source in comparing else 2 * opened))
        for provider, action, count in steps:
            if count:
                calls.setdefault(provider, Counter())[action_name(provider, action)] += count
    return {provider: dict(actions) for provider, actions in calls.items()}


def calls_by_provider(
    flows: Mapping[Flow, int], verify: Verify, *, comparing: Collection[str] = ()
) -> dict[str, int]:
    """All calls of each provider, as `forecast` takes them: see `calls_by_action`.

    >>> calls_by_provider({("ctyun", "ctyun"): 10}, Verify.parse("sample:4"))
    {'ctyun': 16}
    """
    calls = calls_by_action(flows, verify, comparing=comparing)
    return {provider: sum(actions.values()) for provider, actions in calls.items()}


def rights_needed(
    flows: Iterable[Flow], verify: Verify, *, comparing: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """The rights that a credential needs at each provider: names of calls, sorted.

    On the keys of the records and on the destination; a credential's right may be narrowed to one
    key (`ReEncrypt:KEY-ID`), on every one of them then.

    >>> rights_needed([("tencent", "ctyun")], Verify.ANSWER)
    {'tencent': ('Decrypt',), 'ctyun': ('encrypt',)}
    """
    calls = calls_by_action(dict.fromkeys(flows, 1), verify, comparing=comparing)
    return {provider: tuple(sorted(actions)) for provider, actions in calls.items()}
