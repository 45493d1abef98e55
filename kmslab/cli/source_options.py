"""How a command is told of a source: where it is, and which column holds what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kmslab.cli.options import Provider

if TYPE_CHECKING:
    from kmslab.records.source import Source
    from kmslab.records.spec import SourceSpec

SOURCE_HELP: Final = (
    "A CSV, JSONL or Parquet file, a directory or glob of them, or a database URL with --table."
)

SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]


def _column(name: str, what: str) -> Any:
    return typer.Option(
        f"--{name}-column", metavar="NAME", help=f"Where {what} stands.", show_default=True
    )


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options that say how a source is read (design, Annex B)."""

    table: Annotated[
        str | None,
        typer.Option("--table", metavar="NAME", help="The table, where SOURCE is a database URL."),
    ] = None
    provider: Provider = None
    id_column: Annotated[str, _column("id", "the record's id")] = "record_id"
    blob_column: Annotated[str, _column("blob", "the blob")] = "ciphertext_blob"
    provider_column: Annotated[str, _column("provider", "the provider")] = "provider"
    context_column: Annotated[str, _column("context", "the context")] = "encryption_context"
    context_template: Annotated[
        str | None,
        typer.Option(
            "--context-template",
            metavar="JSON",
            help='The context, made of columns: {"tenant":"{tenant_id}"}.',
        ),
    ] = None
    key_column: Annotated[str, _column("key", "the key id")] = "key_id"
    created_column: Annotated[str, _column("created", "the record's time")] = "created_at"
    owner_column: Annotated[str, _column("owner", "the owner")] = "owner"
    source_key_column: Annotated[str, _column("source-key", "the key of public-key ciphertext")] = (
        "source_key_id"
    )
    source_key_version_column: Annotated[
        str, _column("source-key-version", "the version of that key")
    ] = "source_key_version_id"
    source_algorithm_column: Annotated[str, _column("source-algorithm", "its algorithm")] = (
        "source_encryption_algorithm"
    )

    @property
    def given(self) -> bool:
        """Whether any of them is not as it is when nothing is said."""
        return self != SourceOptions()

    def spec(self, location: str) -> SourceSpec:
        """The source at a location. It means the same in another directory, and no password is in
        it: see `opener`."""
        from kmslab.records.columns import Columns
        from kmslab.records.opening import absolute
        from kmslab.records.spec import SourceSpec

        columns = Columns(
            record_id=self.id_column,
            ciphertext_blob=self.blob_column,
            provider=self.provider_column,
            context=self.context_column,
            key_id=self.key_column,
            created_at=self.created_column,
            owner=self.owner_column,
            source_key_id=self.source_key_column,
            source_key_version_id=self.source_key_version_column,
            source_encryption_algorithm=self.source_algorithm_column,
        )
        return absolute(
            SourceSpec(location, self.table, columns, self.provider, self.context_template)
        )


def opener(location: str) -> Callable[[SourceSpec], Source]:
    """What opens the source that `location` was given for, with the password that stands in it."""
    from kmslab.records.opening import is_url, open_source

    if not is_url(location):
        return open_source
    from kmslab.records.sql_database import password_of

    password = password_of(location)
    return lambda spec: open_source(spec, password=password)
