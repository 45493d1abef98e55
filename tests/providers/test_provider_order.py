"""Of two things that are wrong at once, the earlier check answers (design: order of checks).

parameters → parse → find version → rights on source and destination → key check value → states
→ balance, rate → tag. What comes before, the signature, is the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import pytest
from provider_clouds import (
    BOTH,
    SHA_256,
    UNKNOWN_ID,
    Cloud,
    b64,
    short,
    unb64,
)

from kmslab import Key


class Scene:
    """A request to re-encrypt, and everything that can be wrong with it, one by one."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.source, self.destination = cloud.create(), cloud.create()
        cloud.lab.credentials.create("nobody", rights=[])
        self.rate_limit = False
        self.credential: str | None = None
        self.blob = str(cloud.kms.encrypt(self.source.key_id, b"secret"))
        self.more: dict[str, Any] = {}
        self.to = self.destination.key_id

    def request(self) -> dict[str, Any]:
        names = {"ciphertextBlob": self.blob, "destinationKeyId": self.to}
        return {**{self.cloud.action(k): v for k, v in names.items()}, **self.more}

    def answer(self) -> str:
        kms = self.cloud.open(credential=self.credential, rate_limit=self.rate_limit)
        action = self.cloud.action("reEncrypt")
        if self.rate_limit:
            good = self.cloud.kms.encrypt(self.cloud.create().key_id, b"x")
            to = self.cloud.create().key_id
            for _ in range(100):
                self.cloud.re_encrypt(good, to, kms=kms)
        return short(kms.call(action, self.request()))


def unknown_parameter(scene: Scene) -> None:
    scene.more["Nonsense"] = 1


def bad_context(scene: Scene) -> None:
    scene.more["SourceEncryptionContext"] = "no JSON"


def no_blob(scene: Scene) -> None:
    scene.blob = scene.blob[:-1]


def unknown_version(scene: Scene) -> None:
    """A well-formed blob of a key that is not here: the head of one that was."""
    if scene.cloud.tencent:
        s1, s2, s3 = scene.blob.split("-k-")
        head = unb64(s1)
        scene.blob = "-k-".join((b64(head[:20] + bytes(16) + head[36:]), s2, s3))
    else:
        raw = unb64(scene.blob)
        names = f"{scene.source.key_id}&{UNKNOWN_ID}".encode()
        scene.blob = b64(raw[:4] + b64(names).encode() + raw[104:])


def missing_destination(scene: Scene) -> None:
    scene.to = UNKNOWN_ID


def no_rights(scene: Scene) -> None:
    scene.credential = "nobody"


def wrong_check_value(scene: Scene) -> None:
    s1, s2, s3 = scene.blob.split("-k-")
    head = unb64(s1)
    scene.blob = "-k-".join((b64(head[:63] + bytes([head[63] ^ 1])), s2, s3))


def disabled_source(scene: Scene) -> None:
    scene.cloud.kms.disable_key(scene.source.key_id)


def disabled_destination(scene: Scene) -> None:
    scene.cloud.kms.disable_key(scene.destination.key_id)


def no_balance(scene: Scene) -> None:
    scene.cloud.lab.settings.set("balance", 0)


def too_often(scene: Scene) -> None:
    scene.rate_limit = True


def wrong_tag(scene: Scene) -> None:
    if scene.cloud.tencent:
        s1, s2, s3 = scene.blob.split("-k-")
        scene.blob = "-k-".join((s1, b64(bytes([unb64(s2)[0] ^ 1]) + unb64(s2)[1:]), s3))
    else:
        raw = unb64(scene.blob)
        scene.blob = b64(raw[:-1] + bytes([raw[-1] ^ 1]))


Wrong = tuple[Callable[[Scene], None], str]
ORDER: Mapping[str, list[Wrong]] = {
    "tencent": [
        (unknown_parameter, "UnknownParameter"),
        (bad_context, "InvalidParameter"),
        (no_blob, "InvalidCiphertext"),
        (unknown_version, "InvalidCiphertext"),
        (no_rights, "UnauthorizedOperation"),
        (missing_destination, "CmkNotFound"),
        (wrong_check_value, "InvalidCiphertext"),
        (disabled_source, "CmkDisabled"),
        (disabled_destination, "CmkDisabled"),
        (too_often, "RequestLimitExceeded"),
        (wrong_tag, "InvalidCiphertext"),
    ],
    "ctyun": [
        (unknown_parameter, "InvalidParameter"),
        (no_blob, "InvalidCiphertext"),
        (unknown_version, "InvalidCiphertext"),
        (no_rights, "Unauthorized"),
        (missing_destination, "KeyNotFound"),
        (disabled_source, "KeyUnavailable"),
        (disabled_destination, "KeyUnavailable"),
        (no_balance, "BalanceExhausted"),
        (too_often, "Throttled"),
        (wrong_tag, "InvalidCiphertext"),
    ],
}
# A blob can be spoiled in one way at a time; a limit is used up with a balance only, and by
# somebody who may call.
APART = [
    {no_blob, unknown_version},
    {no_blob, wrong_check_value},
    {no_blob, wrong_tag},
    {unknown_version, wrong_check_value},
    {unknown_version, wrong_tag},
    {no_balance, too_often},
    {no_rights, too_often},
    {missing_destination, disabled_destination},
]


def pairs(provider: str) -> list[Any]:
    return [
        pytest.param(first, second, id=f"{provider}-{first[0].__name__}-{second[0].__name__}")
        for first, second in combinations(ORDER[provider], 2)
        if {first[0], second[0]} not in APART
    ]


@pytest.mark.parametrize("provider", BOTH)
def test_each_alone(make_cloud: Callable[[str], Cloud], provider: str) -> None:
    assert Scene(make_cloud(provider)).answer() == "ok"
    for wrong, expected in ORDER[provider]:
        scene = Scene(make_cloud(provider))
        wrong(scene)
        assert scene.answer() == expected, wrong.__name__


@pytest.mark.parametrize(("first", "second"), pairs("tencent"))
def test_the_earlier_check_answers_at_tencent(tencent: Cloud, first: Wrong, second: Wrong) -> None:
    check_order(Scene(tencent), first, second)


@pytest.mark.parametrize(("first", "second"), pairs("ctyun"))
def test_the_earlier_check_answers_at_ctyun(ctyun: Cloud, first: Wrong, second: Wrong) -> None:
    check_order(Scene(ctyun), first, second)


def check_order(scene: Scene, first: Wrong, second: Wrong) -> None:
    second[0](scene)
    first[0](scene)
    assert scene.answer() == first[1]


def test_everything_wrong_at_once(cloud: Cloud) -> None:
    """Peeled off one by one, in the order of the checks."""
    scene = Scene(cloud)
    layers = [
        (wrong, expected)
        for wrong, expected in ORDER[cloud.provider]
        if wrong
        not in (no_blob, unknown_version, wrong_check_value, too_often, disabled_destination)
    ]
    for wrong, _ in reversed(layers):
        wrong(scene)
    undo: dict[Any, Callable[[], Any]] = {
        unknown_parameter: lambda: scene.more.pop("Nonsense"),
        bad_context: lambda: scene.more.pop("SourceEncryptionContext"),
        missing_destination: lambda: setattr(scene, "to", scene.destination.key_id),
        no_rights: lambda: setattr(scene, "credential", None),
        disabled_source: lambda: cloud.kms.enable_key(scene.source.key_id),
        no_balance: lambda: cloud.lab.settings.set("balance", 1),
    }
    for wrong, expected in layers:
        assert scene.answer() == expected
        undo.get(wrong, lambda: None)()


def test_the_same_order_whatever_was_seen_before(cloud: Cloud) -> None:
    """A malformed blob is one with a disabled key too, in a session that knows the key as well."""
    key, other = cloud.create(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    seen, fresh = cloud.open(), cloud.open()
    cloud.re_encrypt(blob, other.key_id, kms=seen)
    seen.decrypt(blob)
    cloud.kms.disable_key(key.key_id)
    for text in (blob[:-1], blob + "A", blob + " "):
        answers = [
            short(
                kms.call(
                    cloud.action("reEncrypt"),
                    {
                        cloud.action("ciphertextBlob"): text,
                        cloud.action("destinationKeyId"): other.key_id,
                    },
                )
            )
            for kms in (seen, fresh)
        ]
        assert answers == ["InvalidCiphertext"] * 2


def test_a_fault_comes_before_everything_but_the_parameters(cloud: Cloud) -> None:
    scene = Scene(cloud)
    no_blob(scene)
    cloud.lab.faults.add(cloud.action("reEncrypt"), "InternalError" if cloud.tencent else "500")
    unknown_parameter(scene)
    assert scene.answer() == ORDER[cloud.provider][0][1]
    scene.more.clear()
    assert scene.answer() == "InternalError"
    assert scene.answer() == "InvalidCiphertext"


# The other calls


CTYUN_OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    # call: what is wrong at once, and the answer
    "encrypt": ({"plaintext": b64(bytes(7000)), "cmkUuid": UNKNOWN_ID}, "InvalidParameter"),
    "generateDataKey": ({"numberOfBytes": 0, "cmkUuid": UNKNOWN_ID}, "InvalidParameter"),
    "asymmetricDecrypt": ({"ciphertextBlob": "!", "cmkUuid": UNKNOWN_ID}, "InvalidParameter"),
    "asymmetricEncrypt": (
        {"plaintext": b64(bytes(191)), "cmkUuid": UNKNOWN_ID},
        "InvalidParameter",
    ),
    "updateAlias": ({"aliasName": "a b", "cmkUuid": UNKNOWN_ID}, "InvalidParameter"),
    "scheduleKeyDeletion": (
        {"pendingWindowInDays": 1, "cmkUuid": UNKNOWN_ID},
        "InvalidParameter",
    ),
    "createKey": ({"aliasName": "a b"}, "InvalidParameter"),
}
TENCENT_OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "Encrypt": ({"Plaintext": "", "KeyId": UNKNOWN_ID}, "InvalidPlaintext"),
    "GenerateDataKey": ({"NumberOfBytes": 0, "KeyId": UNKNOWN_ID}, "InvalidParameter"),
    "AsymmetricRsaDecrypt": (
        {"Ciphertext": "!", "Algorithm": SHA_256, "KeyId": UNKNOWN_ID},
        "InvalidParameter",
    ),
    "UpdateAlias": ({"Alias": "a b", "KeyId": UNKNOWN_ID}, "InvalidAlias"),
    "ScheduleKeyDeletion": (
        {"PendingWindowInDays": 1, "KeyId": UNKNOWN_ID},
        "InvalidPendingWindowInDays",
    ),
    "EnableKeyRotation": ({"RotateDays": 1, "KeyId": UNKNOWN_ID}, "InvalidParameter"),
    "EnableKeys": ({"KeyIds": [UNKNOWN_ID] * 2}, "DuplicatedKeyId"),
    "CreateKey": ({"Alias": "a b"}, "InvalidAlias"),
    "GetParametersForImport": (
        {"WrappingAlgorithm": "RSA", "WrappingKeySpec": "RSA_2048", "KeyId": UNKNOWN_ID},
        "InvalidParameter",
    ),
}


def test_parameters_come_first_in_the_other_calls(cloud: Cloud) -> None:
    """Before the key is looked for, and before the caller's rights."""
    cloud.lab.credentials.create("nobody", rights=[])
    extra = {"keyVersionId": UNKNOWN_ID, "algorithm": SHA_256}
    for call, (request, expected) in (TENCENT_OTHERS if cloud.tencent else CTYUN_OTHERS).items():
        fields = {**extra, **request} if call.startswith("asymmetric") else request
        for kms in (cloud.kms, cloud.open(credential="nobody")):
            assert short(kms.call(call, fields)) == expected, call


def test_rights_come_before_states(cloud: Cloud) -> None:
    key: Key = cloud.create()
    cloud.kms.disable_key(key.key_id)
    cloud.lab.credentials.create("nobody", rights=[])
    kms = cloud.open(credential="nobody")
    name = "KeyId" if cloud.tencent else "cmkUuid"
    request = {name: key.key_id, cloud.action("plaintext"): "YQ=="}
    expected = "UnauthorizedOperation" if cloud.tencent else "Unauthorized"
    assert short(kms.call(cloud.action("encrypt"), request)) == expected
    for call in ("enableKey", "describeKey"):
        assert short(kms.call(cloud.action(call), {name: key.key_id})) == expected
    assert short(kms.call(cloud.action("describeKey"), {name: UNKNOWN_ID})) in (
        "CmkNotFound",
        "KeyNotFound",
    )
