"""How a source is named: what the command line was given, and what a campaign remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kmslab.records.columns import DEFAULT_COLUMNS, Columns


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source and how to read it (design, Annex B).

    `location` is a path, a glob or a SQLAlchemy URL, which has no password; `table` is needed with
    a URL. `provider` and `context_template` stand for their columns: see `read_csv`.

    >>> SourceSpec("orders.csv").as_dict()["location"]
    'orders.csv'
    """

    location: str
    table: str | None = None
    columns: Columns = DEFAULT_COLUMNS
    provider: str | None = None
    context_template: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The spec as JSON takes it.

        `region` and `account` are left out where they are as usual: what was written before there
        were any, and what reads it, knows none.
        """
        columns = asdict(self.columns)
        for name in ("region", "account"):
            if columns[name] == getattr(DEFAULT_COLUMNS, name):
                del columns[name]
        return {**asdict(self), "columns": columns}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SourceSpec:
        """The spec that `as_dict` gave.

        >>> SourceSpec.from_dict(SourceSpec("orders.csv").as_dict()) == SourceSpec("orders.csv")
        True
        """
        return cls(**{**values, "columns": Columns(**values["columns"])})
