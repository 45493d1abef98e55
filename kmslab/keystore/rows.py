"""Rows as values: each column of just the type that the lab writes.

A database may hold any type in any column, and a bundle comes from elsewhere; a MAC and the code
behind it know only these.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

Row = TypeVar("Row")


def row_of(kind: type[Row], columns: Mapping[str, Any]) -> Row:
    """The row that `columns` are; ValueError, naming it, for a column of another type."""
    values = {}
    for name, of, optional in _columns(kind):
        value = columns[name]
        values[name] = None if optional and value is None else _value(of, name, value)
    return kind(**values)


_known: dict[type, list[tuple[str, type, bool]]] = {}


def _columns(kind: type) -> list[tuple[str, type, bool]]:
    found = _known.get(kind)
    if found is not None:
        return found
    found = []
    for name, hint in get_type_hints(kind).items():
        options = get_args(hint) or (hint,)
        (of,) = (option for option in options if option is not NoneType)
        found.append((name, of, NoneType in options))
    _known[kind] = found
    return found


def _value(of: type, name: str, value: Any) -> Any:
    given = type(value)
    if of is bool and given is int and value in (0, 1):
        return bool(value)  # as databases keep it that have no truth values
    if issubclass(of, StrEnum) and given is str:
        return of(value)
    if given is not of:
        raise ValueError(f"{name} is not {of.__name__}")
    if given is str:
        value.encode()  # UnicodeEncodeError is a ValueError: no database keeps half a letter
    if given is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is out of bounds")
    return value
