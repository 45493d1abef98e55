"""What bodies and queries say: strict JSON, and the flat parameters of GET and version 1."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from kmslab.errors import InvalidRequest
from kmslab.providers.parameters import Kind, Parameter

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
_BOOLEANS = {"true": True, "false": False}


def read_json(body: bytes) -> object:
    """The value of a JSON text in UTF-8; InvalidRequest for anything that is not plain JSON.

    Not plain are a key given twice, numbers that are none, and nesting beyond all measure.

    >>> read_json(b'{"Limit": 10}')
    {'Limit': 10}
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON in UTF-8") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def read_pairs(text: bytes) -> dict[str, str]:
    """The parameters of a query or of a form; InvalidRequest where one is there twice, or what is
    there is not encoded as it should be.

    >>> read_pairs(b"KeyIds.0=a&Alias=v+v%2B")
    {'KeyIds.0': 'a', 'Alias': 'v v+'}
    """
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=2048,
        )
    except ValueError:
        raise InvalidRequest("the parameters are not URL-encoded") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("a parameter is given twice")
    return found


def unflatten(pairs: Mapping[str, str], parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Parameters in the flat form (`KeyIds.0=a&Tags.0.TagKey=b`) as JSON would have had them.

    What does not fit its parameter stays a text, and is refused with the call. InvalidRequest for
    a list that is not numbered from 0 on, and where a parameter is there both whole and in parts.

    >>> from kmslab.providers.parameters import Kind, Parameter
    >>> unflatten({"KeyIds.0": "a", "KeyIds.1": "b"}, [Parameter("KeyIds", Kind.STRINGS)])
    {'KeyIds': ['a', 'b']}
    """
    kinds = {parameter.name: parameter.kind for parameter in parameters}
    found: dict[str, Any] = {}
    parts: dict[str, dict[str, str]] = {}
    for name, value in pairs.items():
        head, dot, rest = name.partition(".")
        kind = kinds.get(head)
        if dot and kind in (Kind.STRINGS, Kind.OBJECT, Kind.OBJECTS):
            parts.setdefault(head, {})[rest] = value
        else:
            found[name] = _scalar(value, kind)
    for head, given in parts.items():
        if head in found:
            raise InvalidRequest("a parameter is given twice", parameter=head)
        found[head] = given if kinds[head] is Kind.OBJECT else _list(head, given, kinds[head])
    return found


def _scalar(value: str, kind: Kind | None) -> object:
    if kind is Kind.INTEGER and _INTEGER.fullmatch(value):
        return int(value)
    if kind is Kind.BOOLEAN:
        return _BOOLEANS.get(value.lower(), value)
    return value


def _list(head: str, given: Mapping[str, str], kind: Kind) -> list[Any]:
    items: dict[int, Any] = {}
    for place, value in given.items():
        index, dot, field = place.partition(".")
        if not _INDEX.fullmatch(index) or bool(dot) is not (kind is Kind.OBJECTS):
            raise InvalidRequest(f"{head}.{place} is not a place in a list", parameter=head)
        if kind is Kind.OBJECTS:
            items.setdefault(int(index), {})[field] = value
        else:
            items[int(index)] = value
    if sorted(items) != list(range(len(items))):
        raise InvalidRequest(f"{head} is not numbered from 0 on", parameter=head)
    return [items[index] for index in range(len(items))]
