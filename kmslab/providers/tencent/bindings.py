"""Keys that resources of cloud products use. Such a key stays enabled, with its material.

The lab's settings hold the bindings of each key, under `bindings`: product and resource, sorted.
A key without any is not among them, and a bound one cannot be deleted, so no binding outlives its
key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kmslab.errors import BindingNotFound, InvalidRequest, KeyInUse
from kmslab.keystore.changes import Change
from kmslab.keystore.lifecycle import Act, now_of
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import KeyRow, Unit
from kmslab.model import KeyState
from kmslab.providers.parameters import check_unicode
from kmslab.providers.tencent import rules

MOST_CHARACTERS = 256
_SETTING = "bindings"

# Product and resource; JSON has no tuples.
Binding = list[str]


def binding(product_id: str, resource_id: str) -> Binding:
    """A binding; InvalidRequest unless each of the two has 1 to 256 characters (lab's choice)."""
    for text, parameter in ((product_id, "ProductId"), (resource_id, "ResourceId")):
        if not 1 <= len(text) <= MOST_CHARACTERS:
            raise InvalidRequest(
                f"{parameter} has 1 to {MOST_CHARACTERS} characters", parameter=parameter
            )
        check_unicode(text, parameter)
    return [product_id, resource_id]


def bind(keystore: Keystore, act: Act, key_id: str, wanted: Binding) -> Unit:
    """Bind an enabled key, once or again; its material expires no longer."""
    now = now_of(keystore)
    with keystore.change(act.entry(now, key_id)) as change:
        unit = keystore.unit(key_id)
        rules.require(unit.row, KeyState.ENABLED)
        if unit.row.material_expires_at is not None:
            change.put(replace(unit.row, material_expires_at=None), unit.versions)
        bound = _of(keystore, key_id)
        if wanted not in bound:
            _write(keystore, change, key_id, sorted([*bound, wanted]))
    return keystore.unit(key_id)


def unbind(keystore: Keystore, act: Act, key_id: str, wanted: Binding) -> Unit:
    """Take a binding away, whatever the key's state; BindingNotFound where there is none."""
    now = now_of(keystore)
    with keystore.change(act.entry(now, key_id)) as change:
        bound = _of(keystore, key_id)
        if wanted not in bound:
            raise BindingNotFound(f"key {key_id} is not bound to {_named(wanted)}")
        _write(keystore, change, key_id, [other for other in bound if other != wanted])
    return keystore.unit(key_id)


def unless_bound(keystore: Keystore, edit: rules.Edit) -> rules.Edit:
    """`edit`, and before it KeyInUse for a bound key."""

    def checked(row: KeyRow, now: int) -> KeyRow:
        bound = _of(keystore, row.key_id)
        if bound:
            more = f" and {len(bound) - 1:,} more" if bound[1:] else ""
            raise KeyInUse(
                f"key {row.key_id} is bound to {_named(bound[0])}{more}; "
                "take that away first, with UnbindCloudResource"
            )
        return edit(row, now)

    return checked


def _of(keystore: Keystore, key_id: str) -> list[Binding]:
    return _all(keystore).get(key_id, [])


def _all(keystore: Keystore) -> Mapping[str, list[Binding]]:
    found: Mapping[str, list[Binding]] = keystore.settings.get(_SETTING, {})
    return found


def _write(keystore: Keystore, change: Change, key_id: str, bound: list[Binding]) -> None:
    bindings = {**_all(keystore), key_id: bound}
    change.setting(_SETTING, {key: found for key, found in bindings.items() if found})


def _named(bound: Binding) -> str:
    product_id, resource_id = bound
    return f"{product_id!r} {resource_id!r}"
