"""Records as columns: what many are read as, and how those who look at few fields get at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, overload

from kmslab.many import many_of
from kmslab.model import Record

_records: Final = many_of(Record)
_FIELDS: Final = Record.__slots__


class Records(Sequence[Record]):
    """Records whose fields are given column by column, in the order of the fields.

    A `Record` is made only for who asks for it, and all of them for who goes over them.

    >>> columns = [["1", "2"], ["ctyun"] * 2, ["a", "b"], range(7, 9), *[[None] * 2] * 9]
    >>> records = Records(*columns)
    >>> records.column("row"), records[1].row
    (range(7, 9), 8)
    """

    __slots__ = ("_columns", "_made")

    def __init__(self, *columns: Sequence[Any]) -> None:
        self._columns = dict(zip(_FIELDS, columns, strict=True))
        self._made: list[Record] | None = None

    def column(self, field: str) -> Sequence[Any]:
        """The values of one field."""
        return self._columns[field]

    @property
    def _all(self) -> list[Record]:
        if self._made is None:
            self._made = _records(*self._columns.values())
        return self._made

    def __len__(self) -> int:
        return len(self._columns["record_id"])

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all)

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | Sequence[Record]:
        if self._made is None and isinstance(row, int):
            return Record(*[column[row] for column in self._columns.values()])
        return self._all[row]


def column_of(records: Sequence[Record], field: str) -> Sequence[Any]:
    """The values of one field of records.

    >>> column_of([Record("1", "ctyun", "a"), Record("2", "ctyun", "b")], "ciphertext_blob")
    ['a', 'b']
    """
    if isinstance(records, Records):
        return records.column(field)
    return [getattr(record, field) for record in records]
