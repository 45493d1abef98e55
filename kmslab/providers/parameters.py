"""The parameters of a request, checked against what its call takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kmslab.errors import InvalidRequest, MissingParameter, UnknownParameter


class Kind(Enum):
    """What a parameter holds, with its name for messages."""

    STRING = "a string"
    INTEGER = "an integer"
    BOOLEAN = "true or false"
    STRINGS = "a list of strings"
    OBJECT = "an object"
    OBJECTS = "a list of objects"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a call."""

    name: str
    kind: Kind = Kind.STRING
    required: bool = False


def needed(*names: str) -> tuple[Parameter, ...]:
    """Required texts."""
    return tuple(Parameter(name, required=True) for name in names)


def optional(*names: str) -> tuple[Parameter, ...]:
    """Optional texts."""
    return tuple(Parameter(name) for name in names)


def read(parameters: Iterable[Parameter], request: object) -> dict[str, Any]:
    """The values of a request's parameters; null counts as not given.

    UnknownParameter for one that the call does not have, MissingParameter for a required one that
    is not there, InvalidRequest for one of another type; each names it. InvalidRequest, too, for a
    request that is no JSON object.

    >>> read(needed("KeyId"), {"KeyId": "a"})
    {'KeyId': 'a'}
    """
    known = {parameter.name: parameter for parameter in parameters}
    if not isinstance(request, Mapping):
        raise InvalidRequest("a request is a JSON object")
    for name in request:
        if name not in known:
            raise UnknownParameter(f"the call has no parameter {name}", parameter=str(name))
    values = {}
    for name, parameter in known.items():
        value = request.get(name)
        if value is None:
            if parameter.required:
                raise MissingParameter(f"{name} is needed", parameter=name)
        elif not _fits(value, parameter.kind):
            raise InvalidRequest(f"{name} is {parameter.kind.value}", parameter=name)
        values[name] = value
    return values


def check_unicode(text: str, parameter: str) -> None:
    """InvalidRequest for a text with half a surrogate pair, which nothing can store.

    >>> check_unicode("订单 🔑", "description")
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{parameter} is not Unicode text", parameter=parameter) from None


def _fits(value: object, kind: Kind) -> bool:
    match kind:
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.STRINGS:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case Kind.OBJECT:
            return isinstance(value, dict)
        case Kind.OBJECTS:
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)
