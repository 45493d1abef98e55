"""Encryption contexts: the JSON text that must be given again to open a blob.

A context is a text. The same string must come back, byte for byte: order and white space count
(lab's choice, the stricter reading of "the same string" in the Tencent ReEncrypt document).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from kmslab.errors import ContextError

MAX_CHARACTERS = 1024

Context = str | Mapping[str, str] | None


def context_text(context: Context) -> str:
    """The text of a context; "" for none (None, an empty text and an empty object are one).

    A text must be a JSON object of strings without a key given twice, at most 1,024 characters,
    and stays as it is. A mapping is written canonically: sorted by key, no white space,
    non-ASCII as it is. ContextError names what is wrong.

    >>> context_text({"b": "2", "a": "租户"})
    '{"a":"租户","b":"2"}'
    >>> context_text('{ "a": "1" }')
    '{ "a": "1" }'
    >>> context_text("{}")
    ''
    """
    if context is None or context == "":
        return ""
    if not isinstance(context, (str, Mapping)):
        raise ContextError("the encryption context is neither a text nor a mapping")
    text = context if isinstance(context, str) else _written(context)
    if len(text) > MAX_CHARACTERS:
        raise ContextError(
            f"the encryption context has {len(text)} characters, {MAX_CHARACTERS} at most"
        )
    return text if _pairs(text) else ""


def _written(context: Mapping[str, str]) -> str:
    for key, value in context.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ContextError("the encryption context holds something else than strings")
    return json.dumps(dict(context), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        text.encode("utf-8")
        value = json.loads(text, object_pairs_hook=_Pairs)
    except UnicodeEncodeError:
        raise ContextError("the encryption context holds a lone surrogate") from None
    except (ValueError, RecursionError):
        raise ContextError("the encryption context is not JSON") from None
    if not isinstance(value, _Pairs):
        raise ContextError("the encryption context is not a JSON object")
    seen: set[str] = set()
    for key, item in value:
        if not isinstance(item, str):
            raise ContextError("a value of the encryption context is not a string")
        if key in seen:
            raise ContextError("a key of the encryption context is given twice")
        seen.add(key)
    return value


class _Pairs(list[tuple[str, str]]):
    """A JSON object as it stands: its pairs in order, doubles included."""


def canonical_context(context: Context) -> str:
    """The canonical spelling of a context, "" for none.

    >>> canonical_context('{ "b": "2", "a": "1" }')
    '{"a":"1","b":"2"}'
    """
    text = context_text(context)
    return _written(dict(_pairs(text))) if text else ""
