"""Tencent's ReEncrypt, rule by rule (seeds 000 and 001)."""

from __future__ import annotations

from typing import Any

import pytest
from provider_clouds import (
    CONTEXT,
    TENCENT_CLOUD_NO_CONTEXT,
    TENCENT_SEED_INPUT,
    TENCENT_SEED_OUTPUT,
    UNKNOWN_ID,
    Cloud,
    code,
    response,
)

from kmslab import InvalidCiphertext
from kmslab.context import Context
from kmslab.errors import InvalidRequest

OTHER_CONTEXT = '{"app":"发票"}'
INVALID_CIPHERTEXT = "InvalidParameterValue.InvalidCiphertext"


def re_encrypt(cloud: Cloud, blob: str, **fields: Any) -> dict[str, Any]:
    return response(cloud.kms.call("ReEncrypt", {"CiphertextBlob": blob, **fields}))


def opens_under(cloud: Cloud, blob: str, context: Context) -> bool:
    try:
        found = cloud.kms.decrypt(blob, context=context)
    except InvalidCiphertext:
        return False
    assert found == b"secret"
    return True


# When a blob is made anew


@pytest.mark.parametrize("context", ["", CONTEXT])
@pytest.mark.parametrize("named", [False, True], ids=["own key", "own key by name"])
def test_nothing_to_do_gives_the_same_text_back(tencent: Cloud, context: str, named: bool) -> None:
    """Same key, not rotated, same context: ReEncrypted is false, and the text is the original."""
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=context)
    fields: dict[str, Any] = {"DestinationKeyId": key.key_id} if named else {}
    if context:
        fields |= {"SourceEncryptionContext": context, "DestinationEncryptionContext": context}
    answer = re_encrypt(tencent, blob, **fields)
    answer.pop("RequestId")
    assert answer == {
        "CiphertextBlob": blob,
        "KeyId": key.key_id,
        "SourceKeyId": key.key_id,
        "ReEncrypted": False,
    }
    result = tencent.kms.re_encrypt(blob, source_context=context, destination_context=context)
    assert result.re_encrypted is False
    assert result.ciphertext_blob == blob
    assert result.key_version_id == result.source_key_version_id == key.primary_version_id


def test_an_empty_destination_key_is_the_blobs_own(tencent: Cloud) -> None:
    blob = tencent.kms.encrypt(tencent.create().key_id, b"secret")
    for fields in ({"DestinationKeyId": ""}, {"DestinationKeyId": None}):
        assert re_encrypt(tencent, blob, **fields)["ReEncrypted"] is False
    assert tencent.kms.re_encrypt(blob, destination_key_id="").re_encrypted is False


def test_a_rotated_key_makes_a_new_blob_once(tencent: Cloud) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.lab.rotate(key.key_id)
    answer = re_encrypt(tencent, blob)
    assert answer["ReEncrypted"] is True
    assert answer["KeyId"] == answer["SourceKeyId"] == key.key_id
    assert answer["CiphertextBlob"] != blob
    assert opens_under(tencent, answer["CiphertextBlob"], None)
    assert re_encrypt(tencent, answer["CiphertextBlob"])["ReEncrypted"] is False


def test_another_key_makes_a_new_blob_and_both_ids_are_told(tencent: Cloud) -> None:
    key, other = tencent.create(), tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    answer = re_encrypt(tencent, blob, DestinationKeyId=other.key_id)
    assert answer["ReEncrypted"] is True
    assert (answer["SourceKeyId"], answer["KeyId"]) == (key.key_id, other.key_id)
    assert opens_under(tencent, answer["CiphertextBlob"], None)
    assert set(answer) == {"CiphertextBlob", "KeyId", "SourceKeyId", "ReEncrypted", "RequestId"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", CONTEXT, id="added"),
        pytest.param(CONTEXT, OTHER_CONTEXT, id="changed"),
        pytest.param(CONTEXT, "", id="dropped"),
        pytest.param(CONTEXT, None, id="omitted"),
        pytest.param(CONTEXT, "{}", id="dropped by an empty object"),
        pytest.param(CONTEXT, '{"app": "订单"}', id="spelled otherwise"),
    ],
)
@pytest.mark.parametrize("rotated", [False, True], ids=["primary", "stale"])
def test_another_context_alone_makes_a_new_blob(
    tencent: Cloud, before: str, after: str | None, rotated: bool
) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=before)
    if rotated:
        tencent.lab.rotate(key.key_id)
    fields = {"SourceEncryptionContext": before}
    if after is not None:
        fields["DestinationEncryptionContext"] = after
    answer = re_encrypt(tencent, blob, **fields)
    assert answer["ReEncrypted"] is True
    assert answer["KeyId"] == answer["SourceKeyId"] == key.key_id
    assert opens_under(tencent, answer["CiphertextBlob"], after)
    assert not opens_under(tencent, answer["CiphertextBlob"], before)


def test_a_no_op_is_authenticated_all_the_same(tencent: Cloud) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=CONTEXT)
    wrong = {
        "SourceEncryptionContext": OTHER_CONTEXT,
        "DestinationEncryptionContext": OTHER_CONTEXT,
    }
    assert (
        code(tencent.kms.call("ReEncrypt", {"CiphertextBlob": blob, **wrong})) == INVALID_CIPHERTEXT
    )


# What is refused


def test_every_bad_blob_has_one_code(tencent: Cloud) -> None:
    """Cut, altered and foreign blobs: test_provider_contract has each bit; here are the codes."""
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    s1, s2, s3 = blob.split("-k-")
    bad = {
        "the seed's own sample": TENCENT_SEED_INPUT,
        "the seed's answer, a cloud blob": TENCENT_SEED_OUTPUT,
        "a cloud blob": TENCENT_CLOUD_NO_CONTEXT,
        "empty": "",
        "cut": blob[:-1],
        "one segment": s1,
        "two segments": f"{s1}-k-{s2}",
        "four segments": f"{blob}-k-{s3}",
        "segments changed": f"{s1}-k-{s3}-k-{s2}",
        "white space": f" {blob}",
        "text": "订单" * 60,
    }
    for text in bad.values():
        for call in ("ReEncrypt", "Decrypt"):
            answer = tencent.kms.call(call, {"CiphertextBlob": text})
            assert code(answer) == INVALID_CIPHERTEXT
            assert answer["Response"]["Error"]["Message"] == "密文格式错误。"


@pytest.mark.parametrize(
    ("source", "given"),
    [
        (CONTEXT, OTHER_CONTEXT),
        (CONTEXT, ""),
        (CONTEXT, None),
        ("", CONTEXT),
        (CONTEXT, CONTEXT + " "),
        (CONTEXT, '{"app": "订单"}'),
        ('{"a":"1","b":"2"}', '{"b":"2","a":"1"}'),
        ('{"a":"\\u8ba2"}', '{"a":"订"}'),
    ],
)
def test_a_wrong_context_is_an_invalid_ciphertext(
    tencent: Cloud, source: str, given: str | None
) -> None:
    blob = tencent.kms.encrypt(tencent.create().key_id, b"secret", context=source)
    request = {"CiphertextBlob": blob, "SourceEncryptionContext": given}
    assert code(tencent.kms.call("ReEncrypt", request)) == INVALID_CIPHERTEXT
    request = {"CiphertextBlob": blob, "EncryptionContext": given}
    assert code(tencent.kms.call("Decrypt", request)) == INVALID_CIPHERTEXT


@pytest.mark.parametrize(
    ("key_id", "expected"),
    [
        (UNKNOWN_ID, "ResourceUnavailable.CmkNotFound"),
        ("orders", "InvalidParameterValue.InvalidKeyId"),
        (UNKNOWN_ID.upper(), "InvalidParameterValue.InvalidKeyId"),
        (UNKNOWN_ID[:-1], "InvalidParameterValue.InvalidKeyId"),
        ("disabled", "ResourceUnavailable.CmkDisabled"),
    ],
)
def test_a_bad_destination_has_its_own_code(tencent: Cloud, key_id: str, expected: str) -> None:
    key, disabled = tencent.create(), tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.kms.disable_key(disabled.key_id)
    request = {
        "CiphertextBlob": blob,
        "DestinationKeyId": disabled.key_id if key_id == "disabled" else key_id,
    }
    assert code(tencent.kms.call("ReEncrypt", request)) == expected


def test_a_disabled_source_has_its_own_code(tencent: Cloud) -> None:
    key, other = tencent.create(), tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.kms.disable_key(key.key_id)
    request = {"CiphertextBlob": blob, "DestinationKeyId": other.key_id}
    assert code(tencent.kms.call("ReEncrypt", request)) == "ResourceUnavailable.CmkDisabled"


def test_an_archived_key_decrypts_and_encrypts_nothing(tencent: Cloud) -> None:
    key, other = tencent.create(), tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.kms.archive_key(key.key_id)
    assert opens_under(tencent, blob, None)
    assert re_encrypt(tencent, blob, DestinationKeyId=other.key_id)["ReEncrypted"] is True
    to_archived = {
        "CiphertextBlob": tencent.kms.encrypt(other.key_id, b"secret"),
        "DestinationKeyId": key.key_id,
    }
    assert code(tencent.kms.call("ReEncrypt", to_archived)) == "ResourceUnavailable.CmkDisabled"
    no_op = {"CiphertextBlob": blob}
    assert code(tencent.kms.call("ReEncrypt", no_op)) == "ResourceUnavailable.CmkDisabled"


# Contexts


@pytest.mark.parametrize(
    "context",
    [
        '{"k":"v"}',
        ' { "b" : "2",\n"a" : "1" } ',
        '{"":""}',
        '{"租户":"订单 🔑"}',
        '{"a":"\\u8ba2"}',
        '{"k":"' + "v" * 1016 + '"}',
        '{"k":"' + "订" * 1016 + '"}',
        '{"k":"' + "🔑" * 1016 + '"}',
    ],
)
def test_a_context_is_the_text_that_was_sent(tencent: Cloud, context: str) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=context)
    assert opens_under(tencent, blob, context)
    assert not opens_under(tencent, blob, None)
    tencent.lab.rotate(key.key_id)
    both = {"SourceEncryptionContext": context, "DestinationEncryptionContext": context}
    fresh = re_encrypt(tencent, blob, **both)["CiphertextBlob"]
    assert opens_under(tencent, fresh, context)


def test_a_dict_is_one_spelling(tencent: Cloud) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context={"b": "2", "a": "租户"})
    assert opens_under(tencent, blob, {"a": "租户", "b": "2"})
    assert opens_under(tencent, blob, '{"a":"租户","b":"2"}')
    assert not opens_under(tencent, blob, '{"b":"2","a":"租户"}')


def test_no_context_has_three_spellings(tencent: Cloud) -> None:
    key = tencent.create()
    none: list[Context] = [None, "", "{}", " { } ", {}]
    for given in none:
        blob = tencent.kms.encrypt(key.key_id, b"secret", context=given)
        assert all(opens_under(tencent, blob, other) for other in none)
        result = tencent.kms.re_encrypt(blob, source_context="{}", destination_context={})
        assert result.re_encrypted is False


@pytest.mark.parametrize(
    "context",
    [
        "orders",
        "[]",
        '"text"',
        "null",
        "1",
        '{"a":1}',
        '{"a":null}',
        '{"a":{"b":"c"}}',
        '{"a":["b"]}',
        '{"a":"1","a":"2"}',
        '{"a":"1"',
        "{'a':'1'}",
        '{"a":"1"} x',
        '{"k":"' + "v" * 1017 + '"}',
        '{"k":"\ud800"}',
        "[" * 1000,
    ],
)
def test_what_is_no_context_is_an_invalid_parameter(tencent: Cloud, context: str) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "SourceEncryptionContext": ("ReEncrypt", {"CiphertextBlob": blob}),
        "DestinationEncryptionContext": ("ReEncrypt", {"CiphertextBlob": blob}),
        "EncryptionContext": ("Decrypt", {"CiphertextBlob": blob}),
    }
    for name, (action, request) in calls.items():
        answer = tencent.kms.call(action, {**request, name: context})
        assert code(answer) == "InvalidParameter"
    for name in ("source_context", "destination_context"):
        with pytest.raises(InvalidRequest) as caught:
            tencent.kms.re_encrypt(blob, **{name: context})
        assert caught.value.parameter == name.split("_")[0].title() + "EncryptionContext"
    with pytest.raises(InvalidRequest):
        tencent.kms.encrypt(key.key_id, b"secret", context=context)


@pytest.mark.parametrize("context", [{"a": 1}, {1: "a"}, {"a": None}, {"a": "x" * 1024}])
def test_a_dict_that_is_no_context(tencent: Cloud, context: Any) -> None:
    key = tencent.create()
    with pytest.raises(InvalidRequest):
        tencent.kms.encrypt(key.key_id, b"secret", context=context)


def test_the_two_contexts_are_not_mixed_up(tencent: Cloud) -> None:
    key, other = tencent.create(), tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context={"a": "1"})
    moved = tencent.kms.re_encrypt(
        blob,
        destination_key_id=other.key_id,
        source_context={"a": "1"},
        destination_context={"a": "2"},
    ).ciphertext_blob
    assert opens_under(tencent, moved, {"a": "2"})
    assert not opens_under(tencent, moved, {"a": "1"})
    with pytest.raises(InvalidCiphertext):
        tencent.kms.re_encrypt(blob, source_context={"a": "2"}, destination_context={"a": "1"})
