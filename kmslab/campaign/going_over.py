"""How one part of a source is gone over, whoever does it: a run by itself, or a worker for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kmslab.analysis.classify import Target
from kmslab.campaign.ground import Ground
from kmslab.campaign.journal import Journal
from kmslab.campaign.judging import Judging
from kmslab.campaign.passes import FAILED, LOST, RE_ENCRYPTED, UNCHANGED, Pass, Tools
from kmslab.campaign.plan import Options
from kmslab.campaign.sending import Sender, Verify
from kmslab.campaign.watching import Watch
from kmslab.providers.base import own_rates
from kmslab.rate import OWN_WINDOWS, Windows
from kmslab.records.source import Part

_COUNTS: Final = (RE_ENCRYPTED, UNCHANGED, FAILED, LOST)


def tools_for(
    ground: Ground,
    journal: Journal,
    target: Target,
    options: Options,
    fields: frozenset[str],
    watch: Watch,
    told: Callable[[int], object],
    *,
    windows: Windows = OWN_WINDOWS,
) -> Tools:
    """The tools of all passes of a run. `told` gets the records of each batch that a rate holds
    back; rates are kept in `windows`."""
    verify = Verify.parse(options.verify)
    sender = Sender(
        ground.providers,
        target,
        verify=verify,
        rates=options.rates,
        clock=ground.clock,
        jitter=ground.jitter,
        stop=watch.stop,
        waiting=watch.waiting,
        told=told,
        windows=windows,
    )
    return Tools(
        journal=journal,
        judging=Judging(ground.providers, target, sender, ground.clock),
        sender=sender,
        providers=ground.providers,
        target=target,
        selection=options.selection,
        fields=fields,
        counts=no_counts(),
        calling=CallCount(journal, sender),
        pause=watch.pause,
        trusting=bool(own_rates(ground.providers)) and verify == Verify.ANSWER,
    )


class CallCount:
    """Has a journal know of the calls that a sender makes from now on."""

    def __init__(self, journal: Journal, sender: Sender) -> None:
        self._journal = journal
        self._sender = sender
        self._told = Counter(sender.calls)

    def __call__(self) -> None:
        """Tell it of those that it does not know of; on the disk with what is told next."""
        made = Counter(self._sender.calls)
        if more := made - self._told:
            self._journal.add_calls(more)
            self._told = made


def no_counts() -> Counter[str]:
    """What became of the records, before there are any."""
    return Counter(dict.fromkeys(_COUNTS, 0))


def go_over(
    pass_: Pass,
    part: Part,
    *,
    tools: Tools,
    output: Path | None,
    atomic: bool,
    taken: Callable[[], None],
) -> bool:
    """One pass over a part with the tools of `pass_`; False where an atomic campaign has to leave
    it as it is.

    `taken` is called after each chunk; what it raises ends the pass there. Whatever ends it, the
    journal knows of the calls that were made.
    """
    counts = tools.counts
    try:
        with part.edit(output=output, atomic=atomic) as edit:
            for chunk in edit:
                pass_.take(chunk, edit)
                taken()
                if atomic and (counts[FAILED] or counts[LOST] or pass_.kept_out):
                    return False
            if atomic and pass_.missing():
                return False
            edit.finish()
        pass_.finish()
    finally:
        tools.calling()
    return True


def make_way(journal: Journal, output: Path | None) -> None:
    """Make way for a copy: one that an earlier run placed, and was killed then, is ours."""
    if output is None:
        return
    if journal.facts().get("placing") == str(output):
        output.unlink(missing_ok=True)
    journal.note(placing=str(output))
