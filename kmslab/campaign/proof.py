"""Prove what a campaign has done: every record that it changed, read again and opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.comparing import Found, compared
from kmslab.campaign.entries import Match, Matching, before
from kmslab.campaign.journal import Journal, Step
from kmslab.campaign.outputs import output_path
from kmslab.campaign.plan import Options
from kmslab.campaign.run import Ground, refuse_other_remotes
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.errors import CampaignState
from kmslab.records.source import Part, Source
from kmslab.records.spec import SourceSpec

_LISTED: Final = 1_000


@dataclass(frozen=True, slots=True)
class Proof:
    """What the records that a campaign has changed hold now; the last five sum to `changed`.

    `proven` ones hold the new blob, and it opens to what the old one holds. `reverted` ones hold
    the old blob again, as after a restored backup. `touched` ones hold another blob, `gone` ones
    are not there, or in a file of another name. `unproven` ones hold the new blob, and one of the
    two does not open, or to something else; `unproven_ids` names some of these.
    """

    campaign: str
    changed: int
    proven: int
    reverted: int
    touched: int
    gone: int
    unproven: int
    unproven_ids: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every record that the campaign has changed is proven."""
        return self.proven == self.changed


def verify(ground: Ground, campaign_id: str, *, watch: Watch = QUIET) -> Proof:
    """Read a campaign's source, or the copy that it wrote, and open what was changed.

    Unauthenticated where a provider refuses whoever asks. CampaignState for a campaign that is not
    finished, was undone, is closed, or was aborted and has changed nothing: there is nothing to
    compare with then. CampaignInterrupted where `watch` says stop.
    """
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        refuse_other_remotes(ground, campaign_id, facts)
        _refuse(journal, facts["state"])
        counts = Counter[_Now]()
        unproven: list[str] = []
        rows = 0
        for read, matches in _matches(journal, _places(ground, journal, facts)):
            rows += read
            for match, now in zip(matches, _now(ground, matches), strict=True):
                counts[now] += 1
                if now is _Now.UNPROVEN and len(unproven) < _LISTED:
                    unproven.append(match.record.record_id)
            seen = Progress("verifying", rows, None, {"proven": counts[_Now.PROVEN]})
            watch.told(seen, campaign_id=campaign_id)
        changed = journal.count(Step.APPLIED)
        return Proof(
            campaign=campaign_id,
            changed=changed,
            proven=counts[_Now.PROVEN],
            reverted=counts[_Now.REVERTED],
            touched=counts[_Now.TOUCHED],
            gone=changed - counts.total(),
            unproven=counts[_Now.UNPROVEN],
            unproven_ids=tuple(unproven),
        )


class _Now(Enum):
    """What a record that was changed is now."""

    PROVEN = auto()
    REVERTED = auto()
    TOUCHED = auto()
    UNPROVEN = auto()


def _now(ground: Ground, matches: Sequence[Match]) -> list[_Now]:
    now = []
    here = []
    for match in matches:
        blob, change = match.record.ciphertext_blob, match.entry.change
        new = blob == change.new_blob
        here += [match] if new else []
        now.append(
            _Now.PROVEN if new else _Now.REVERTED if blob == change.old_blob else _Now.TOUCHED
        )
    old = [before(match.record, match.entry.change) for match in here]
    found = iter(compared(ground.providers, old, [match.record for match in here]))
    return [
        _Now.UNPROVEN if each is _Now.PROVEN and next(found) is not Found.SAME else each
        for each in now
    ]


def _refuse(journal: Journal, state: str) -> None:
    # An atomic one over several files may have stored some of them before it was aborted.
    if state != "finished" and not (state == "aborted" and journal.count(Step.APPLIED)):
        raise CampaignState(
            f"campaign {journal.campaign_id} is {state}; a finished one can be verified"
        )


def _places(ground: Ground, journal: Journal, facts: Mapping[str, Any]) -> list[tuple[Part, int]]:
    """The parts to read, each with its number in the journal."""
    numbers = journal.part_names()
    spec = SourceSpec.from_dict(facts["spec"])
    options = Options.from_dict(facts["options"])
    source = ground.open_source(spec)
    if options.output is None:
        return [(part, numbers[part.name]) for part in source.parts if part.name in numbers]
    copies = {part.name: part for part in _copy(ground, spec, options).parts}
    homes = {part.name: output_path(options, source, part) for part in source.parts}
    return [
        (copies[str(home.resolve())], numbers[name])
        for name, home in homes.items()
        if name in numbers and isinstance(home, Path) and str(home.resolve()) in copies
    ]


def _copy(ground: Ground, spec: SourceSpec, options: Options) -> Source:
    return ground.open_source(replace(spec, location=options.output or ""))


def _matches(
    journal: Journal, places: Sequence[tuple[Part, int]]
) -> Iterator[tuple[int, list[Match]]]:
    """Chunk by chunk: how many records were read, and those that the campaign changed."""
    for part, number in places:
        matching = Matching(journal, number, stored=True)
        for chunk in part.read():
            yield len(chunk.records), matching.of(chunk)
