"""kmslab census: how many records are on which key version."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.grounds import StateFolder, state_of
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_json
from kmslab.cli.reaching import Reaching
from kmslab.cli.source_options import ReadSource, SourceOptions

if TYPE_CHECKING:
    from kmslab.analysis.census import CensusRow
    from kmslab.campaign.watching import Watch
    from kmslab.providers.base import Providers
    from kmslab.records.source import Source

app = typer.Typer(**settings())


@app.command(
    epilog=example(
        "kmslab census orders.csv",
        "kmslab census 'exports/*.parquet' --provider ctyun --blob-column secret",
        "kmslab census sqlite:///shop.db --table secrets --deep",
        "kmslab census orders.csv --remote prod",
    )
)
@opens_lab
def census(
    columns: SourceOptions,
    opening: Opening,
    reaching: Reaching,
    source: ReadSource,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open every blob, and do not just read its head.")
    ] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Count the records of a source by key and version.

    Told from the heads of the blobs, which nothing proves until they are opened: --deep opens each,
    and says how many do not. What is not known is a dash: the key of a cloud's own blob, the
    version of a key that is not in the lab. A version is called inferred where nothing but a head
    says it: in a cloud's own blob, and where a cloud tells no versions. KEY is the key's
    alias, where it has one of its own; --json gives every id.
    """
    from kmslab.campaign.wording import counted
    from kmslab.cli.campaign_shown import show_census
    from kmslab.cli.progress import watching
    from kmslab.cli.reaching import names_of
    from kmslab.cli.source_options import opener

    with reaching.open(opening) as lab, watching("") as watch:
        spec = columns.find(source, state_of(opening, state, reaching.names))
        opened = opener(source, placed=bool(reaching.names))(spec)
        rows, unopened = census_of(opened, lab, watch, deep=deep)
        names = names_of(lab)
    if as_json:
        write_json(rows)
    else:
        show_census(rows, names)
    narrate(counted(sum(row.records for row in rows), "record"))
    if deep:
        some = counted(
            unopened,
            "of them was not opened, or does not open",
            "of them were not opened, or do not open",
        )
        narrate(some if unopened else "all of them were opened")


def census_of(
    source: Source, providers: Providers, watch: Watch, *, deep: bool = False
) -> tuple[list[CensusRow], int]:
    """The census of a source; with `deep` also how many of its blobs do not open."""
    from kmslab.analysis.census import Census
    from kmslab.analysis.classify import NO_KMS, Classifier, Outcome
    from kmslab.campaign.tally import authenticated
    from kmslab.campaign.watching import Progress
    from kmslab.campaign.wording import counted, not_looked_at

    classifier, taken = Classifier(providers), Census()
    lost: Counter[str] = Counter()
    rows = unopened = 0
    for part in source.parts:
        for chunk in part.read():
            verdicts = [classifier.classify(record) for record in chunk.records]
            if deep:
                verdicts = authenticated(providers, chunk.records, verdicts)
                unopened += sum(
                    verdict.unverified or verdict.outcome is Outcome.INVALID for verdict in verdicts
                )
            for record, verdict in zip(chunk.records, verdicts, strict=True):
                taken.add(record, verdict)
                if verdict.reason == NO_KMS:
                    lost[record.provider] += 1
            rows += len(chunk.records)
            watch.told(Progress("counting", rows, None, {}))
    for provider in classifier.refused:
        narrate(not_looked_at(provider))
    for provider, count in lost.items():
        some = counted(count, "record is", "records are")
        narrate(f"{provider}: {some} of this provider, of which no --remote was given")
    return taken.rows(), unopened
