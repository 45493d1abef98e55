"""Whether what a caller gave is of the kind that was asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np


def is_number(value: Any) -> bool:
    """Whether this is a finite number, and no text of one.

    >>> is_number(0.5), is_number("90"), is_number(float("nan")), is_number(True)
    (True, False, False, False)
    """
    numeric = isinstance(value, int | float | np.integer | np.floating)
    return numeric and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of a type that has no others.

    >>> is_whole(90), is_whole(90.0)
    (True, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_several(values: Any) -> bool:
    """Whether this is a list, or the like, of several things.

    >>> is_several([90]), is_several(90), is_several("90"), is_several({"tencent": 90})
    (True, False, False, False)
    """
    if isinstance(values, str | bytes | Mapping):
        return False
    return isinstance(values, Collection | np.ndarray)


def check_providers(providers: Any) -> None:
    """ValueError for what is neither a lab nor remotes.

    >>> check_providers("lab")
    Traceback (most recent call last):
    ...
    ValueError: providers are a Lab or Remotes, not 'lab': with Lab.open("path") as lab: ...
    """
    if not callable(getattr(providers, "providers", None)):
        shown = repr(providers)[:40]
        raise ValueError(
            f'providers are a Lab or Remotes, not {shown}: with Lab.open("path") as lab: ...'
        )
