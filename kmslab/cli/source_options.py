"""How a command is told of a source: where it is, and which column holds what."""

from __future__ import annotations

import glob
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from kmslab.cli.options import ProviderName
from kmslab.cli.output import narrate

if TYPE_CHECKING:
    from kmslab.campaign.sources import RegisteredSource
    from kmslab.campaign.state import State
    from kmslab.records.source import Source
    from kmslab.records.spec import SourceSpec

SOURCE_HELP: Final = (
    "A CSV, JSONL or Parquet file, a directory or glob of them, or a database URL with --table."
)

SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]

READ_HELP: Final = f"{SOURCE_HELP} Or the name of a registered source."

ReadSource = Annotated[str, typer.Argument(metavar="SOURCE", help=READ_HELP)]


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
    provider: Annotated[
        ProviderName | None,
        typer.Option("--provider", help="The provider of all records; else their column says it."),
    ] = None
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
    region_column: Annotated[str, _column("region", "the region that chooses a remote")] = "region"
    account_column: Annotated[str, _column("account", "the account that chooses a remote")] = (
        "account"
    )

    @property
    def given(self) -> bool:
        """Whether any of them is not as it is when nothing is said."""
        return self != SourceOptions()

    def spec(self, location: str) -> SourceSpec:
        """The source at a location. It means the same in another directory, and the password of a
        URL is not in it: `opener` has that. SourceError for a URL that may hold another secret."""
        from kmslab.records.columns import Columns
        from kmslab.records.opening import absolute, split_location
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
            region=self.region_column or None,
            account=self.account_column or None,
        )
        location, _ = split_location(location)
        return absolute(
            SourceSpec(location, self.table, columns, self.provider, self.context_template)
        )

    def find(self, source: str, state: State) -> SourceSpec:
        """The source that SOURCE names: a URL, a path, or else a registered source of that name.

        SourceError where it is none of them; SettingError for a registered one with other columns.
        """
        from kmslab.database_url import is_url
        from kmslab.errors import KmslabError, SettingError, SourceError

        if is_url(source):
            return self.spec(source)
        if _is_there(source):
            # A folder that cannot be used stands in the way of those who need it, and not here.
            with suppress(KmslabError):
                if found := _registered(source, state):
                    narrate(
                        f"{source} is read as a path; the registered source of that name is "
                        f"{found.spec.location}"
                    )
            return self.spec(source)
        found = _registered(source, state)
        if found is None:
            raise SourceError(
                f"{source}: there is no such file, and no source of that name is registered in "
                f"{state.path}; `kmslab source list` shows those that are",
                source=source,
            )
        if self.given:
            raise SettingError(
                f"{source} is a registered source, which is read as it was registered; "
                "give no columns or table with it, or name its file or database"
            )
        narrate(f"{source} is the registered source {found.spec.location}")
        return found.spec


def _is_there(path: str) -> bool:
    """Whether a path, or a glob, leads to a file."""
    try:
        return Path(path).exists() or (glob.has_magic(path) and any(glob.iglob(path)))  # noqa: PTH207
    except (OSError, ValueError):
        return False


def _registered(name: str, state: State) -> RegisteredSource | None:
    from kmslab.campaign.sources import Sources

    return next((source for source in Sources(state).all() if source.name == name), None)


def opener(location: str, *, placed: bool = False) -> Callable[[SourceSpec], Source]:
    """What opens sources: that which `location` was given for with the password that stands in it,
    and any other without. `placed` ones tell the region and account of records.

    It says where later commands have to find that password: it is stored nowhere.
    """
    from kmslab.records.opening import open_source, split_location

    here, password = split_location(location)
    opens = partial(open_source, placed=True) if placed else open_source
    if password is None:
        return opens
    narrate(
        "the password in the URL is used now, and stored nowhere; a later resume, verify, undo or "
        "retire needs it where the driver looks by itself: for PostgreSQL PGPASSWORD or ~/.pgpass"
    )
    return lambda spec: opens(spec, password=password if spec.location == here else None)
