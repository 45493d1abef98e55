"""The operations of both remotes: through a socket, and where clouds answer in their own ways."""

from __future__ import annotations

import base64
import logging
import threading
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from remote_world import SECRET_KEY, CloudLink, LabLink, Server, remote_over

from kmslab import KeySpec, Lab, ManualClock, Record, connect, errors
from kmslab.analysis.forecast import DOCUMENTED_RATE
from kmslab.lab import REGIONS
from kmslab.model import CTYUN, TENCENT, BlobFormat, UnverifiedHeader
from kmslab.providers.base import UNKNOWN, Kms
from kmslab.providers.ctyun import codes as ctyun_codes
from kmslab.providers.remote import AT_ONCE, Endpoint, Reply
from kmslab.providers.tencent import codes as tencent_codes
from kmslab.rate import CallWindow
from kmslab.remotes import Remote

BOTH = (TENCENT, CTYUN)
NOBODY = "00000000-0000-4000-8000-00000000dead"


def a_key(lab: Lab, provider: str, alias: str = "") -> str:
    kms: Any = lab.kms(provider)
    alias = alias or f"key-{time.monotonic_ns()}"
    return str(kms.create_key(alias=alias).key_id)


class TestThroughASocket:
    """The unmodified official client of Tencent's, and httpx, against a served lab."""

    def test_keys_are_told_as_the_lab_has_them(self, remote: Remote, served_lab: Lab) -> None:
        local: Any = served_lab.kms(remote.provider)
        key_id = a_key(served_lab, remote.provider)
        pair = local.create_key(alias=f"pair-{key_id[:8]}", spec=KeySpec.RSA_2048).key_id
        served_lab.rotate(key_id)
        for each in (key_id, pair):
            there, here = remote.describe_key(each), local.describe_key(each)
            for name in ("key_id", "provider", "region", "spec", "origin", "state", "alias"):
                assert getattr(there, name) == getattr(here, name)
            assert there.created_at == here.created_at.replace(microsecond=0)
        listed = [key.key_id for key in remote.list_keys()]
        assert {key_id, pair} <= set(listed)
        assert len(listed) == len(set(listed))
        with pytest.raises(errors.KeyNotFound):
            remote.describe_key(NOBODY)

    def test_versions_are_told_where_the_cloud_shows_them(
        self, remote: Remote, served_lab: Lab
    ) -> None:
        local: Any = served_lab.kms(remote.provider)
        key_id = a_key(served_lab, remote.provider)
        served_lab.rotate(key_id)
        blob = local.encrypt(key_id, b"secret")
        number = local.describe_key(key_id).primary_version_id
        header = UnverifiedHeader(remote.provider, BlobFormat.LAB, key_id, number)
        if remote.provider == TENCENT:
            assert remote.versions(key_id) is UNKNOWN
            assert remote.version_of(header) is UNKNOWN
            assert remote.describe_key(key_id).primary_version_id is None
        else:
            told, known = remote.versions(key_id), local.versions(key_id)
            assert [v.version_id for v in told] == [v.version_id for v in known]  # type: ignore[union-attr]
            assert [v.number for v in told] == [1, 2]  # type: ignore[union-attr]
            assert remote.version_of(header).number == 2  # type: ignore[union-attr]
            assert remote.describe_key(key_id).primary_version_id == number
            with pytest.raises(errors.KeyNotFound):
                remote.version_of(UnverifiedHeader(CTYUN, BlobFormat.LAB, key_id, NOBODY))
        assert remote.key_marks() is UNKNOWN
        assert blob

    def test_data_comes_back_as_it_went(self, remote: Any, served_lab: Lab) -> None:
        key_id = a_key(served_lab, remote.provider)
        data = bytes(range(256))
        blob = remote.encrypt(key_id, data)
        assert remote.decrypt(blob) == data
        made = remote.generate_data_key(key_id, key_spec="AES_256")
        assert remote.decrypt(made.ciphertext_blob) == made.plaintext
        assert (len(made.plaintext), made.key_id) == (32, key_id)
        served_lab.rotate(key_id)
        result = remote.re_encrypt(blob, destination_key_id=key_id)
        assert result.re_encrypted
        assert (result.key_id, result.source_key_id) == (key_id, key_id)
        assert result.request_id
        assert remote.decrypt(result.ciphertext_blob) == data

    def test_a_row_costs_only_itself(self, remote: Any, served_lab: Lab) -> None:
        key_id = a_key(served_lab, remote.provider)
        blobs = [remote.encrypt(key_id, b"%d" % n) for n in range(3)]
        served_lab.rotate(key_id)
        rows = [*blobs[:2], "no blob", blobs[2]]
        done = remote.re_encrypt_many(rows, destination_key_ids=key_id, verify=True)
        assert done.verified == [True, True, None, True]
        assert done.re_encrypted == [True, True, None, True]
        assert isinstance(done.error[2], errors.InvalidCiphertext)
        assert done.error[2].request_id
        found = remote.decrypt_records(
            [Record(str(n), remote.provider, b or "") for n, b in enumerate(done.ciphertext_blob)]
        )
        assert [found.plaintext[n] for n in (0, 1, 3)] == [b"0", b"1", b"2"]
        sealed = remote.encrypt_many([b"a", None, b"b"], key_id=key_id)
        assert [blob is None for blob in sealed.ciphertext_blob] == [False, True, False]
        assert sealed.error == [None] * 3

    def test_an_envelope_is_the_providers_own(self, remote: Remote) -> None:
        if remote.provider == TENCENT:
            answer = remote.call("DescribeKey", {"KeyId": NOBODY})["Response"]
            assert answer["Error"]["Code"] == "ResourceUnavailable.CmkNotFound"
            assert answer["RequestId"]
        else:
            answer = remote.call("describeKey", {"cmkUuid": NOBODY})
            assert (answer["code"], answer["errorCode"]) == ("404", "LAB.KeyNotFound")

    def test_contexts_go_along(self, signed_in: Server, served_lab: Lab) -> None:
        key_id = a_key(served_lab, TENCENT)
        with connect("tencent", region=REGIONS[TENCENT], endpoint=signed_in.url) as kms:
            context = {"订单": "v v+/=&%25"}
            blob = kms.encrypt(key_id, b"secret", context=context)
            served_lab.rotate(key_id)
            moved = kms.re_encrypt_many(
                [blob], source_contexts=context, destination_contexts={"b": "1"}, verify=True
            )
            assert moved.verified == [True]
            assert kms.decrypt(moved.ciphertext_blob[0] or "", context={"b": "1"}) == b"secret"
            with pytest.raises(errors.InvalidCiphertext):
                kms.decrypt(blob)

    def test_what_the_signature_says_is_heard(
        self, remote: Remote, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", SECRET_KEY)
        monkeypatch.setenv("CTYUN_SK", SECRET_KEY)
        name = remote.provider
        with connect(name, region=REGIONS[name], endpoint=server.url) as wrong:
            with pytest.raises(errors.SignatureMismatch) as caught:
                wrong.list_keys()
            assert SECRET_KEY not in shown(caught.value)


def shown(error: BaseException) -> str:
    """Everything that a traceback may show, locals of the frames too."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(told.format()) + repr(vars(error))


@pytest.mark.parametrize("provider", BOTH)
class TestWithoutAnAnswer:
    """Network failures are retryable, name the endpoint, and tell nothing of the request."""

    def failing(self, provider: str, monkeypatch: pytest.MonkeyPatch, url: str) -> Remote:
        monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", "id-of-a-test")
        monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", SECRET_KEY)
        monkeypatch.setenv("CTYUN_AK", "id-of-a-test")
        monkeypatch.setenv("CTYUN_SK", SECRET_KEY)
        return connect(provider, region=REGIONS[provider], endpoint=url)

    def test_nobody_listens(self, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
        kms = self.failing(provider, monkeypatch, "http://127.0.0.1:1")
        with kms, pytest.raises(errors.Unreachable, match=r"127\.0\.0\.1:1") as caught:
            kms.encrypt(NOBODY, b"the canary sings")
        assert isinstance(caught.value, errors.Retryable)
        assert caught.value.endpoint == "http://127.0.0.1:1"
        assert caught.value.__context__ is None
        text = str(caught.value) + repr(caught.value) + "".join(caught.value.args)
        for hidden in (SECRET_KEY, "id-of-a-test", "dGhlIGNhbmFyeSBzaW5ncw==", NOBODY):
            assert hidden not in text

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nsorry"[:-1],
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\nno!",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
        ],
        ids=["closed", "a proxy's", "no JSON", "cut"],
    )
    def test_it_is_not_answered_as_a_kms_does(
        self, provider: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with one_answer(answer) as server:
            kms = self.failing(provider, monkeypatch, server.url)
            with kms, pytest.raises(errors.Unreachable):
                kms.encrypt(NOBODY, b"the canary sings")

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
    def test_no_proxy_has_what_is_for_this_machine(
        self, provider: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with one_answer(b"") as proxy:
            monkeypatch.setenv(name, proxy.url)
            kms = self.failing(provider, monkeypatch, "http://127.0.0.1:1")
            with kms, pytest.raises(errors.Unreachable):
                kms.encrypt(NOBODY, b"the canary sings")
        assert proxy.asked == []

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_nothing_is_sent_where_an_answer_points(
        self, provider: str, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with one_answer(b"") as other:
            head = f"HTTP/1.1 {status} Moved\r\nLocation: {other.url}/"
            with one_answer(f"{head}\r\nContent-Length: 0\r\n\r\n".encode()) as here:
                kms = self.failing(provider, monkeypatch, here.url)
                with kms, pytest.raises(errors.Unreachable):
                    kms.encrypt(NOBODY, b"the canary sings")
        assert len(here.asked) == 1
        assert other.asked == []


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        "null",
        '"Response"',
        '{"message":"limit"}',
        '{"Response":null}',
        '{"Response":{"Error":null}}',
        '{"Response":{"Error":{"Code":"X"}}}',
        '{"Response":{"Error":{"Code":"X","Message":"m"}}}',
        "[" * 100_000,
    ],
)
def test_what_no_envelope_is_costs_tencents_client_a_row(
    body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client looks into any JSON as if it were an envelope."""
    for name in ("ID", "KEY"):
        monkeypatch.setenv(f"TENCENTCLOUD_SECRET_{name}", SECRET_KEY)
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    with (
        one_answer(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}".encode()) as server,
        connect("tencent", region=REGIONS[TENCENT], endpoint=server.url) as kms,
    ):
        done = kms.re_encrypt_many(["one", "two"])
    assert [type(error) for error in done.error] == [errors.Unreachable] * 2


def test_an_error_that_nobody_foresaw_is_one_rows() -> None:
    class Odd(Told):
        def send(self, _action: str, request: Any) -> Reply:
            if request["Plaintext"] == "b25l":
                raise KeyError(SECRET_KEY)
            return Reply({"Response": {"CiphertextBlob": "b", "KeyId": NOBODY}})

    kms: Any = remote_over(Odd(), TENCENT)
    done = kms.encrypt_many([b"none", b"one", b"two"], key_id=NOBODY)
    assert done.ciphertext_blob == ["b", None, "b"]
    assert str(done.error[1]) == "an answer could not be read (KeyError)"
    assert done.error[1].__context__ is None


def test_a_client_that_another_thread_closes_is_out_of_reach(
    signed_in: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    from kmslab.providers.ctyun.link import EopLink

    closed = httpx.Client(base_url=signed_in.url)
    closed.close()
    monkeypatch.setattr(EopLink, "_opened", lambda _: closed)
    kms = connect("ctyun", region=REGIONS[CTYUN], endpoint=signed_in.url)
    with kms, pytest.raises(errors.Unreachable):
        kms.encrypt(NOBODY, b"x")


class one_answer:  # noqa: N801
    """Listens at `url`, answers every request with these bytes, and keeps what was `asked`."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.asked: list[bytes] = []

    def __enter__(self) -> one_answer:
        import socket

        self._listener = socket.create_server(("127.0.0.1", 0))

        def work() -> None:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                with connection:
                    self.asked.append(connection.recv(65_536))
                    connection.sendall(self._answer)

        self._thread = threading.Thread(target=work)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        import socket

        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Told:
    """A link whose answers are given."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)

    def send(self, _action: str, _request: Any) -> Reply:
        return self._replies.pop(0)

    def close(self) -> None:
        pass


def refusal(provider: str, code: str, status: int = 400) -> Reply:
    if provider == TENCENT:
        failed = {"Code": code, "Message": "it said " + SECRET_KEY}
        return Reply({"Response": {"Error": failed, "RequestId": "r-1"}}, "r-1")
    envelope = {"code": str(status), "errorCode": code or None, "msg": SECRET_KEY, "data": None}
    return Reply(envelope, "r-1", status)


@pytest.mark.parametrize(
    ("provider", "code", "status", "kind"),
    [
        *((TENCENT, each.code, 200, each.error) for each in tencent_codes.CODES),
        (TENCENT, "RequestLimitExceeded.UinLimitExceeded", 200, errors.Throttled),
        (TENCENT, "AuthFailure.MFAFailure", 200, errors.Unauthenticated),
        (TENCENT, "AuthFailure.UnauthorizedOperation", 200, errors.Unauthorized),
        (TENCENT, "UnsupportedOperation.ServiceTemporaryUnavailable", 200, errors.InternalError),
        (TENCENT, "InvalidParameterValue.New", 200, errors.InvalidRequest),
        (TENCENT, "ServiceUnavailable", 200, errors.InternalError),
        (TENCENT, "Nobody.Knows", 200, errors.KmsError),
        (TENCENT, "<b>" + "x" * 500, 200, errors.KmsError),
        *((CTYUN, each.code, each.status, each.error) for each in ctyun_codes.CODES),
        (CTYUN, "KMS.0999", 400, errors.InvalidRequest),
        (CTYUN, "KMS.0999", 401, errors.Unauthenticated),
        (CTYUN, "KMS.0999", 404, errors.KeyNotFound),
        (CTYUN, "KMS.0999", 500, errors.InternalError),
        (CTYUN, "KMS.0999", 429, errors.Throttled),
        *((CTYUN, "KMS.0999", status, errors.InternalError) for status in (408, 502, 503, 504)),
        (CTYUN, "", 503, errors.InternalError),
        (CTYUN, "", 404, errors.UnknownAction),
        (CTYUN, "", 500, errors.InternalError),
        (CTYUN, "CTAPI_10009", 400, errors.SignatureMismatch),
        (CTYUN, "CTAPI_10002", 400, errors.UnknownCredential),
    ],
)
def test_a_code_is_an_error_of_the_tree(
    provider: str, code: str, status: int, kind: type[errors.KmsError]
) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    kms = remote_over(Told(*[refusal(provider, code, status)] * 9), provider, clock)
    with pytest.raises(errors.KmsError) as caught:
        kms.describe_key(NOBODY)
    assert type(caught.value) is kind
    assert caught.value.request_id == "r-1"
    assert SECRET_KEY not in str(caught.value)
    assert len(str(caught.value)) < 200
    assert caught.value.code


@pytest.mark.parametrize("envelope", [{}, {"code": "200"}, {"code": 0}, {"message": "busy"}])
def test_a_gateways_status_is_heard_whatever_its_body_says(envelope: dict[str, Any]) -> None:
    kms: Any = remote_over(Told(Reply(envelope, "r-1", 502)), CTYUN)
    with pytest.raises(errors.InternalError, match="502"):
        kms.encrypt(NOBODY, b"x")


@pytest.mark.parametrize(
    ("provider", "envelope"),
    [
        (TENCENT, {}),
        (TENCENT, {"Response": {"RequestId": "r"}}),
        (TENCENT, {"Response": {"CiphertextBlob": 7, "ReEncrypted": True, "KeyId": "k"}}),
        (TENCENT, {"Response": {"CiphertextBlob": "b", "ReEncrypted": "no", "KeyId": "k"}}),
        (CTYUN, {"code": "200", "data": None}),
        (CTYUN, {"code": "200", "data": {"ciphertextBlob": ""}}),
        (CTYUN, {"code": "200", "data": {"ciphertextBlob": 7}}),
    ],
)
def test_an_answer_that_lacks_something_is_none(provider: str, envelope: dict[str, Any]) -> None:
    kms: Any = remote_over(Told(Reply(envelope, "r-1")), provider)
    with pytest.raises(errors.BadAnswer, match=provider):
        kms.re_encrypt("blob", destination_key_id=NOBODY)


class Paged(Told):
    """Answers lists with pages of its own size: of keys at Tencent, of versions at CTyun."""

    def __init__(self, provider: str, there: int, size: int, total: int | None) -> None:
        self._of_tencent = provider == TENCENT
        self._there, self._size, self._total = there, size, total

    def send(self, _action: str, request: Any) -> Reply:
        start = request["Offset"] if self._of_tencent else (request["pageNumber"] - 1) * self._size
        rows = range(start, min(start + self._size, self._there))
        if self._of_tencent:
            usual = {"KeyUsage": "ENCRYPT_DECRYPT", "Type": 2, "KeyState": "Enabled"}
            keys = [{**usual, "KeyId": str(n), "KeyRotationEnabled": False} for n in rows]
            return Reply({"Response": {"KeyMetadatas": keys, **self._told("TotalCount")}})
        made = [{"keyVersionId": str(n), "creationDate": "2026-01-01 00:00:00"} for n in rows]
        return Reply({"code": "200", "data": {"keyVersions": made, **self._told("totalCount")}})

    def _told(self, name: str) -> dict[str, int]:
        return {} if self._total is None else {name: self._total}

    def listed(self, provider: str) -> int:
        kms: Any = remote_over(self, provider)
        return len(kms.list_keys() if self._of_tencent else kms.versions(NOBODY))


@pytest.mark.parametrize("provider", BOTH)
class TestPages:
    @pytest.mark.parametrize("total", [True, False])
    @pytest.mark.parametrize("size", [50, 100, 200])
    @pytest.mark.parametrize("there", [0, 1, 100, 120, 250])
    def test_all_are_read_however_long_they_are(
        self, provider: str, there: int, size: int, total: bool
    ) -> None:
        asked = 200 if provider == TENCENT else 100
        paged = Paged(provider, there, min(size, asked), there if total else None)
        assert paged.listed(provider) == there

    def test_a_list_that_ends_before_its_total_is_none(self, provider: str) -> None:
        with pytest.raises(errors.BadAnswer, match="otalCount"):
            Paged(provider, 120, 50, 121).listed(provider)

    def test_one_that_never_ends_is_none(self, provider: str) -> None:
        with pytest.raises(errors.BadAnswer, match="otalCount"):
            Paged(provider, 10**6, 1, None).listed(provider)


def test_the_guides_envelope_of_ctyun_is_understood() -> None:
    """reference/ctyun-guide.md 3: numbers for texts, `result` for `data`."""
    result = {"ciphertextBlob": "b", "cmkUuid": NOBODY, "keyVersionId": NOBODY}
    told = {"code": 200, "result": result, "statusCode": 200, "success": 1}
    kms: Any = remote_over(Told(Reply(told, "r")), CTYUN)
    assert kms.encrypt(NOBODY, b"x") == "b"


def test_which_key_ctyun_answers_is_told_by_the_blobs(memory_lab: Lab) -> None:
    """The answer names source or destination; either way all four ids are right."""
    local: Any = memory_lab.ctyun()
    old, new = a_key(memory_lab, CTYUN), a_key(memory_lab, CTYUN)
    blob = local.encrypt(old, b"secret")
    kms: Any = remote_over(LabLink(local), CTYUN)
    for side in ("destination", "source"):
        memory_lab.settings.set("cmk_uuid", side)
        result = kms.re_encrypt(blob, destination_key_id=new)
        versions = [local.describe_key(each).primary_version_id for each in (new, old)]
        assert [result.key_id, result.source_key_id] == [new, old]
        assert [result.key_version_id, result.source_key_version_id] == versions


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ({}, None),
        ({"keyVersionId": None}, None),
        ({"ciphertextBlob": "of another key"}, "ciphertextBlob"),
        ({"ciphertextBlob": "the old one"}, "ciphertextBlob"),
        ({"cmkUuid": NOBODY}, "cmkUuid"),
        ({"cmkUuid": None}, "cmkUuid"),
        ({"keyVersionId": NOBODY}, "keyVersionId"),
        ({"ciphertextBlob": "unreadable"}, None),
        ({"ciphertextBlob": "unreadable", "cmkUuid": None}, "cmkUuid"),
        ({"ciphertextBlob": "unreadable", "cmkUuid": NOBODY}, "cmkUuid"),
    ],
)
def test_a_re_encryption_of_ctyun_names_what_was_asked_for(
    memory_lab: Lab, answered: dict[str, Any], said: str | None
) -> None:
    local: Any = memory_lab.ctyun()
    key = local.create_key(alias="pay")
    elsewhere = a_key(memory_lab, CTYUN)
    blobs = {
        "the old one": local.encrypt(key.key_id, b"secret"),
        "new": local.encrypt(key.key_id, b"secret"),
        "of another key": local.encrypt(elsewhere, b"secret"),
    }
    usual = {"ciphertextBlob": "new", "cmkUuid": key.key_id, "keyVersionId": key.primary_version_id}
    told = usual | answered
    told["ciphertextBlob"] = blobs.get(told["ciphertextBlob"], told["ciphertextBlob"])
    kms: Any = remote_over(Told(Reply({"code": "200", "data": told}, "r-1")), CTYUN)
    if said is None:
        result = kms.re_encrypt(blobs["the old one"], destination_key_id=key.key_id)
        assert (result.key_id, result.re_encrypted) == (key.key_id, True)
    else:
        with pytest.raises(errors.BadAnswer, match=said):
            kms.re_encrypt(blobs["the old one"], destination_key_id=key.key_id)


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(("asked", "got"), [(32, 1), (32, 0), (32, 33), (1, 2), (None, 31)])
def test_a_data_key_has_the_length_that_was_asked_for(
    provider: str, asked: int | None, got: int
) -> None:
    data = base64.b64encode(bytes(got)).decode()
    told = {"Plaintext": data, "CiphertextBlob": "b", "KeyId": NOBODY}
    envelope: dict[str, Any] = {"Response": told}
    if provider == CTYUN:
        told = {"plaintext": data, "ciphertextBlob": "b", "cmkUuid": NOBODY}
        envelope = {"code": "200", "data": told}
    kms: Any = remote_over(Told(Reply(envelope, "r-1")), provider)
    spec = None if asked else "AES_256"
    with pytest.raises(errors.BadAnswer, match="laintext"):
        kms.generate_data_key(NOBODY, number_of_bytes=asked, key_spec=spec)


def test_a_cloud_of_which_only_re_encrypt_is_known(memory_lab: Lab) -> None:
    local: Any = memory_lab.ctyun()
    key_id = a_key(memory_lab, CTYUN)
    link = CloudLink(local, calls=("reEncrypt", "encrypt"))
    kms: Any = remote_over(link, CTYUN)
    blob = kms.encrypt(key_id, b"secret")
    assert kms.versions(key_id) is UNKNOWN
    with pytest.raises(errors.UnknownAction):
        kms.describe_key(key_id)
    assert kms.re_encrypt(blob, destination_key_id=key_id).key_id == key_id


class TestTheLine:
    def test_a_rate_is_kept_whatever_is_called(self, memory_lab: Lab) -> None:
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        key_id = a_key(memory_lab, CTYUN)
        link = LabLink(memory_lab.ctyun())
        kms: Any = remote_over(link, CTYUN, clock, rate=20)
        kms.encrypt_many([b"x"] * 60, key_id=key_id)
        for _ in range(20):
            kms.encrypt(key_id, b"x")
        begun = datetime(2026, 1, 1, tzinfo=UTC)
        assert (clock.now() - begun).total_seconds() == pytest.approx(3.0)
        assert len(link.asked) == 80

    def test_who_closes_it_ends_what_waits_and_no_answer_is_lost(self) -> None:
        all_under_way, go_on = threading.Barrier(AT_ONCE + 1), threading.Event()

        class Slow(Told):
            def send(self, _action: str, _request: Any) -> Reply:
                if not go_on.is_set():
                    all_under_way.wait(60)
                    go_on.wait(60)
                return Reply({"Response": {"CiphertextBlob": "b", "KeyId": NOBODY}})

        kms: Any = remote_over(Slow(), TENCENT)
        found: list[Any] = []
        asks = threading.Thread(
            target=lambda: found.append(kms.encrypt_many([b"x"] * 40, key_id=NOBODY))
        )
        asks.start()
        all_under_way.wait(60)
        waiting = kms._line._pool._work_queue
        while waiting.qsize() < 40 - AT_ONCE:  # the others are handed in while these begin
            time.sleep(0.001)
        closes = threading.Thread(target=kms.close)
        closes.start()
        while waiting.qsize() > 1:  # what waits is cancelled, and a mark says so
            time.sleep(0.001)
        go_on.set()
        closes.join(60)
        asks.join(60)
        [done] = found
        assert done.ciphertext_blob == ["b"] * AT_ONCE + [None] * (40 - AT_ONCE)
        assert {type(error) for error in done.error[AT_ONCE:]} == {errors.Unreachable}
        assert kms.encrypt_many([b"x"] * 3, key_id=NOBODY).error == [None] * 3
        kms.close()

    @pytest.mark.parametrize("step", [-3600.0, 3600.0])
    def test_a_clock_that_is_set_changes_nothing(self, step: float) -> None:
        class Set(ManualClock):
            """Whose time is set by `step` against what passes."""

            ahead = 0.0

            def time(self) -> float:
                return super().time() + self.ahead

            def monotonic(self) -> float:
                return super().time()

        clock = Set(datetime(2026, 1, 1, tzinfo=UTC))
        window = CallWindow(2, clock=clock)
        assert [window.take(), window.take()] == [0.0, 0.0]
        clock.ahead = step
        assert window.take() == 1.0
        clock.sleep(1.0)
        assert window.take() == 0.0

    def test_calls_are_under_way_at_once_and_no_more_than_the_bound(self) -> None:
        lock, now, most = threading.Lock(), 0, 0
        together = threading.Event()

        class Slow(Told):
            def send(self, _action: str, _request: Any) -> Reply:
                nonlocal now, most
                with lock:
                    now += 1
                    most = max(most, now)
                    if now == AT_ONCE:
                        together.set()
                together.wait(60)
                with lock:
                    now -= 1
                return refusal(TENCENT, "InternalError")

        kms: Any = remote_over(Slow(), TENCENT)
        done = kms.encrypt_many([b"x"] * (3 * AT_ONCE), key_id=NOBODY)
        kms.close()
        assert most == AT_ONCE
        assert all(isinstance(each, errors.InternalError) for each in done.error)
        assert all(each.__traceback__ is None for each in done.error)


def test_nothing_is_written_into_a_log(
    remote: Any, served_lab: Lab, caplog: pytest.LogCaptureFixture, server: Server
) -> None:
    key_id = a_key(served_lab, remote.provider)
    with caplog.at_level(logging.DEBUG):
        blob = remote.encrypt(key_id, b"the canary sings")
        remote.decrypt(blob)
    text = caplog.text
    secret = server.made.secret_key.expose().decode()
    for hidden in (blob, "dGhlIGNhbmFyeSBzaW5ncw==", secret, "Signature", "Authorization"):
        assert hidden not in text


def test_a_remote_shows_no_credential(remote: Remote, server: Server) -> None:
    text = f"{remote!r} {remote!s} {vars(remote)['_access']!r}"
    for name in ("SECRET_ID", "SECRET_KEY"):
        assert server.environment[f"TENCENTCLOUD_{name}"] not in text


@pytest.mark.parametrize(
    "text",
    [
        "ftp://kms.test",
        "http://kms.test",
        "https://kms.test/v1",
        "https://a:b@kms.test",
        "https://",
        "kms.test:x",
        "http://127.0.0.1:80?x=1",
        "https://kms.test#x",
        "a\nb",
        "",
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(errors.ProfileError):
        Endpoint.parse(text)


def test_endpoints() -> None:
    for text, shown_as in (
        ("kms.test", "https://kms.test"),
        ("https://kms.test:8443/", "https://kms.test:8443"),
        ("http://localhost:8400", "http://localhost:8400"),
        ("http://[::1]:8400", "http://[::1]:8400"),
    ):
        assert str(Endpoint.parse(text)) == shown_as


def test_both_are_a_kms() -> None:
    for name in BOTH:
        kms: Kms = remote_over(Told(), name)
        assert not kms.capabilities.authenticate
        assert set(kms.capabilities.missing) >= {"authenticate"}


def test_a_remote_makes_half_of_the_documented_calls(signed_in: Server) -> None:
    with connect("ctyun", region=REGIONS[CTYUN], endpoint=signed_in.url) as kms:
        assert kms.rate == kms.capabilities.rate == DOCUMENTED_RATE / 2
