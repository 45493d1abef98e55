"""Prove what a campaign has done: every record that it changed, read again and opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kmslab.campaign.entries import before, stored
from kmslab.campaign.journal import Entry, Journal, Step
from kmslab.campaign.outputs import output_path
from kmslab.campaign.plan import Options
from kmslab.campaign.run import Ground
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.errors import CampaignState
from kmslab.model import Record
from kmslab.providers.transfer import same_plaintext_many
from kmslab.records.source import Part, Source
from kmslab.records.spec import SourceSpec

_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Proof:
    """What the records that a campaign has changed hold now; the last four sum to `changed`.

    `proven` ones hold the new blob, and it opens to what the old one holds. `touched` ones were
    changed since, `gone` ones are not there. `unproven` ones hold the new blob, and one of the two
    does not open, or to something else; some are named.
    """

    campaign: str
    changed: int
    proven: int
    touched: int
    gone: int
    unproven: int
    unproven_ids: tuple[str, ...]


def verify(ground: Ground, campaign_id: str, *, watch: Watch = QUIET) -> Proof:
    """Read a campaign's source, or the copy that it wrote, and open what was changed.

    CampaignState for a campaign that is not finished, was undone, or is closed: there is nothing
    to compare with then. CampaignInterrupted where `watch` says stop.
    """
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        if facts["state"] != "finished":
            raise CampaignState(
                f"campaign {campaign_id} is {facts['state']}; a finished one can be verified"
            )
        changed, touched, proven = journal.count(Step.APPLIED), 0, 0
        unproven: list[str] = []
        rows = 0
        for read, pairs in _pairs(journal, _places(ground, journal, facts)):
            rows += read
            here = [(r, e) for r, e in pairs if r.ciphertext_blob == e.change.new_blob]
            touched += len(pairs) - len(here)
            same = same_plaintext_many(
                ground.providers, [before(r, e.change) for r, e in here], [r for r, _ in here]
            )
            proven += sum(map(bool, same))
            unproven += [
                r.record_id for (r, _), is_same in zip(here, same, strict=True) if not is_same
            ]
            seen = Progress("verifying", rows, None, {"proven": proven})
            watch.told(seen, campaign_id=campaign_id)
        return Proof(
            campaign=campaign_id,
            changed=changed,
            proven=proven,
            touched=touched,
            gone=changed - proven - touched - len(unproven),
            unproven=len(unproven),
            unproven_ids=tuple(unproven[:_LISTED]),
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


def _pairs(
    journal: Journal, places: list[tuple[Part, int]]
) -> Iterator[tuple[int, list[tuple[Record, Entry]]]]:
    """Chunk by chunk: how many records were read, and those that the campaign changed."""
    for part, number in places:
        for chunk in part.read():
            yield len(chunk.records), stored(journal, number, chunk)
