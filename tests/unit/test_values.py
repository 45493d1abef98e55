"""Values at the edges: what `pack` takes, and how plaintexts are compared."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from kmslab import ReEncryptResult, secret
from kmslab.encoding import pack
from kmslab.model import re_encrypt_result
from kmslab.secret import Plaintext


@pytest.mark.parametrize("odd", [1.5, 1.0, float("nan"), [], {}, object(), bytearray(b"a")])
def test_pack_refuses_what_it_cannot_tell_apart(odd: Any) -> None:
    for fields in ([odd], ["before", odd], [odd, "after"]):
        with pytest.raises(TypeError, match="cannot be packed"):
            pack(*fields)


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"", b""), (b"a", b"a"), (b"a", b"b"), (b"a", b"ab"), (b"ab", b"a"), (b"a" * 99, b"a" * 99)],
)
def test_unequal_is_the_opposite_of_equal(one: bytes, other: bytes) -> None:
    for left, right in (
        (Plaintext(one), Plaintext(other)),
        (Plaintext(one), other),
        (one, Plaintext(other)),
        (Plaintext(one), bytearray(other)),
    ):
        assert (left == right) is (one == other)
        assert (left != right) is (one != other)


@pytest.mark.parametrize("other", [None, 7, ["a"]])
def test_a_plaintext_is_unequal_to_what_is_no_bytes(other: object) -> None:
    assert Plaintext(b"a") != other
    assert not Plaintext(b"a") == other  # noqa: SIM201


def test_unequal_takes_as_long_as_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def bytes_eq(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(secret, "bytes_eq", bytes_eq)
    assert "__ne__" in vars(Plaintext)
    assert Plaintext(b"a") != b"b"
    assert b"c" != Plaintext(b"d")  # noqa: SIM300
    assert not Plaintext(b"e") != b"e"  # noqa: SIM202
    assert compared == [(b"a", b"b"), (b"d", b"c"), (b"e", b"e")]


def test_a_result_made_from_a_draft_is_as_any_other() -> None:
    made = re_encrypt_result("blob", ("a", "b", "c", "d"), "e", re_encrypted=True)
    other = ReEncryptResult("blob", True, "a", "b", "c", "d", "e")
    assert type(made) is ReEncryptResult
    assert (made, repr(made), hash(made)) == (other, repr(other), hash(other))
    assert dataclasses.asdict(made) == dataclasses.asdict(other)
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == other
    assert dataclasses.replace(made, request_id="f").request_id == "f"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.key_id = "f"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del made.key_id
    assert not hasattr(made, "__dict__")
