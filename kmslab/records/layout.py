"""From the cells of a row to a record: which column of a source holds which field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from itertools import repeat
from operator import itemgetter
from typing import Any, Final

from kmslab.columns import Records
from kmslab.errors import FormatError
from kmslab.model import Record
from kmslab.records.columns import DEFAULT_COLUMNS, Columns, ContextTemplate, parse_time

Cell = str | datetime | None
"""What a source holds: text, for created_at also a time; None for nothing."""

Column = Sequence[Cell]

_NOWHERE: Final = None  # one past the last cell: what a column that is not there holds


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows become records, in any format: see `read_csv`.

    >>> Reading(provider="ctyun").layout(["record_id", "ciphertext_blob"]).width
    2
    """

    columns: Columns = DEFAULT_COLUMNS
    provider: str | None = None
    template: ContextTemplate | None = None

    def layout(self, header: Sequence[str]) -> Layout:
        """Where in rows with this header the fields are: see `Layout.of`."""
        return Layout.of(header, self.columns, self.provider, self.template)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read where they are there, each once."""
        unread = _unread(self.provider, self.template)
        fields_read = (f.name for f in fields(self.columns) if f.name not in unread)
        read = [name for field in fields_read if (name := getattr(self.columns, field))]
        return tuple(dict.fromkeys([*read, *(self.template.columns if self.template else ())]))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row the fields of a record are.

    `at` gives the position of each field that has a column, by the names of `Columns`. The cells
    of a row are those of the header, in its order; what is empty, or not there, is None in the
    record where it need not be there.

    >>> layout = Layout.of(["record_id", "secret"], Columns(ciphertext_blob="secret"), "ctyun")
    >>> layout.record(["订单-1", "a21z"], row=1).ciphertext_blob
    'a21z'
    """

    at: dict[str, int]
    read_at: frozenset[int]
    """The positions of all columns that are read: those of fields, and of a template."""
    width: int
    _pick: Callable[[Sequence[Any]], tuple[Any, ...]]  # cells, or columns of them
    _provider: str | None
    _template: ContextTemplate | None
    _template_at: tuple[int, ...]

    @classmethod
    def of(
        cls,
        header: Sequence[str],
        columns: Columns = DEFAULT_COLUMNS,
        provider: str | None = None,
        template: ContextTemplate | None = None,
    ) -> Layout:
        """The layout of rows with this header.

        FormatError for a column that is there twice, or is needed and not there: see `Columns`.
        """
        if double := next((name for name, count in Counter(header).items() if count > 1), None):
            raise FormatError(f"column {double!r} is there twice; found: {_listed(header)}")
        if missing := [n for n in _required(columns, provider, template) if n not in header]:
            hint = ""
            if columns.provider in missing:
                hint = "; or say of which provider all records are"
            raise FormatError(f"no column {_listed(missing)}; found: {_listed(header)}{hint}")
        position = {name: index for index, name in enumerate(header)}
        names = {field.name: getattr(columns, field.name) for field in fields(columns)}
        unread = _unread(provider, template)
        at = {f: position[n] for f, n in names.items() if n in position and f not in unread}
        template_at = tuple(position[name] for name in template.columns) if template else ()
        return cls(
            at=at,
            read_at=frozenset(at.values()).union(template_at),
            width=len(header),
            _pick=itemgetter(*(position.get(name, len(header)) for name in astuple(columns))),
            _provider=provider,
            _template=template,
            _template_at=template_at,
        )

    def record(self, cells: Sequence[Cell], row: int) -> Record:
        """The record of a row. FormatError for a time that is none."""
        # Fields by position, and no call for a cell that is text: this is where the time goes.
        (
            record_id,
            blob,
            provider,
            context,
            key_id,
            created,
            owner,
            source,
            version,
            algorithm,
            region,
            account,
        ) = self._pick((*cells, _NOWHERE))
        if self._provider is not None:
            provider = self._provider
        if self._template is not None:
            context = self._template.fill(_text(cells[at]) for at in self._template_at)
        return Record(
            record_id or "",
            provider or "",
            blob or "",
            row,
            context or None,
            key_id or None,
            _time(created) if created else None,
            owner or None,
            source or None,
            version or None,
            algorithm or None,
            region or None,
            account or None,
        )

    def records(self, columns: Sequence[Column], first: int, count: int) -> Records:
        """The records of `count` rows from row `first` on, given column by column.

        The columns are in the order of the header; those that are not read may be empty. This is
        the quick way: no row is put together before it is a record.

        >>> layout = Layout.of(["record_id", "ciphertext_blob", "x"], provider="ctyun")
        >>> [record.row for record in layout.records([["a", "b"], ["x", "y"], []], 7, 2)]
        [7, 8]
        """
        nothing: Column = [None] * count
        picked = self._pick([*columns, nothing])
        ids, blobs, providers, contexts, keys, created, *others = picked
        if self._provider is not None:
            providers = [self._provider] * count
        if self._template is not None:
            read = [map(_text, columns[at]) for at in self._template_at]
            rows = zip(*read, strict=True) if read else repeat((), count)
            contexts = [self._template.fill(cells) for cells in rows]
        return Records(
            _filled(ids, ""),
            _filled(providers, ""),
            _filled(blobs, ""),
            range(first, first + count),
            _filled(contexts, None),
            _filled(keys, None),
            [_time(cell) if cell else None for cell in created] if any(created) else nothing,
            *(column if column is nothing else _filled(column, None) for column in others),
        )


def _filled(column: Column, empty: str | None) -> Column:
    """A column with `empty` for its empty cells."""
    return column if all(column) else [cell or empty for cell in column]


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else "" if cell is None else cell.isoformat()


def _time(cell: str | datetime) -> datetime:
    if isinstance(cell, datetime):
        if cell.tzinfo is UTC:
            return cell
        return cell.replace(tzinfo=UTC) if cell.tzinfo is None else cell.astimezone(UTC)
    try:
        return parse_time(cell)
    except FormatError as error:
        raise FormatError(f"created_at: {error}") from None


def _unread(provider: str | None, template: ContextTemplate | None) -> set[str]:
    """The fields that something else stands for."""
    return {
        name for name, given in (("provider", provider), ("context", template)) if given is not None
    }


def _required(
    columns: Columns, provider: str | None, template: ContextTemplate | None
) -> list[str]:
    """The columns that must be there: see `Columns`."""
    always = {"record_id", "ciphertext_blob", "provider"}
    unread = _unread(provider, template)
    required = []
    for field, name, default in zip(
        fields(columns), astuple(columns), astuple(DEFAULT_COLUMNS), strict=True
    ):
        if name is None or field.name in unread:
            continue
        if field.name in always or name != default:
            required.append(name)
    return required + ([] if template is None else list(template.columns))


def _listed(names: Sequence[str]) -> str:
    """Names for an error, a few of them: what is not a table may seem to have very many."""
    shown = ", ".join(repr(name[:60]) for name in names[:30])
    return shown if len(names) <= 30 else f"{shown} and {len(names) - 30:,} more"
