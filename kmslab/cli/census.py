"""kmslab census: how many records are on which key version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, Provider, example, settings
from kmslab.cli.output import narrate, write_json, write_table

if TYPE_CHECKING:
    from kmslab.analysis.census import CensusRow
    from kmslab.cli.names import Names

app = typer.Typer(**settings())


def _column(name: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}-column", metavar="NAME", help=f"Where {what} stands.", show_default=True
    )
    return option


@app.command(
    epilog=example(
        "kmslab census records.csv",
        "kmslab census secrets.csv --provider ctyun --blob-column secret",
    )
)
@opens_lab
def census(
    opening: Opening,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A CSV file.")],
    provider: Provider = None,
    id_column: Annotated[str, _column("id", "the record's id")] = "record_id",
    blob_column: Annotated[str, _column("blob", "the blob")] = "ciphertext_blob",
    provider_column: Annotated[str, _column("provider", "the provider")] = "provider",
    context_column: Annotated[str, _column("context", "the context")] = "encryption_context",
    key_column: Annotated[str, _column("key", "the key id")] = "key_id",
    created_column: Annotated[str, _column("created", "the record's time")] = "created_at",
    owner_column: Annotated[str, _column("owner", "the owner")] = "owner",
    context_template: Annotated[
        str | None,
        typer.Option(
            "--context-template",
            metavar="JSON",
            help='The context, made of columns: {"tenant":"{tenant_id}"}.',
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the records of a source by key and version.

    Told from the heads of the blobs, which nothing proves until they are opened. What is not known
    is a dash: the key of a cloud's own blob, the version of a key that is not in the lab. KEY is
    the key's alias, where it has one of its own; --json gives every id.
    """
    from kmslab.analysis.census import census as count
    from kmslab.cli.names import Names
    from kmslab.records.columns import Columns
    from kmslab.records.files import read_csv

    columns = Columns(
        record_id=id_column,
        ciphertext_blob=blob_column,
        provider=provider_column,
        context=context_column,
        key_id=key_column,
        created_at=created_column,
        owner=owner_column,
    )
    with opening() as lab:
        records = read_csv(
            source, columns=columns, provider=provider, context_template=context_template
        )
        rows = count(records, lab)
        names = Names.of(lab)
    if as_json:
        write_json(rows)
        return
    write_census(rows, names)
    narrate(f"{sum(row.records for row in rows)} records")


def write_census(rows: Iterable[CensusRow], names: Names) -> None:
    """A census as a table."""
    write_table(
        ["PROVIDER", "KEY", "VERSION", "PRIMARY", "RECORDS"],
        [[r.provider, names(r.key_id), r.version_number, r.is_primary, r.records] for r in rows],
    )
