"""Key material and plaintext are in nothing that a lab writes or shows.

Known material goes in, and everything that comes out is searched for it: files, texts, pickles,
and tracebacks that show local variables.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from keystore_labs import execute, leaks
from lab_stores import files

from kmslab import Lab, ManualClock
from kmslab.errors import KmslabError, LabError
from kmslab.keystore.root import Passphrase, RootKeyFile
from kmslab.secret import Plaintext, Secret

MATERIAL = bytes(range(100, 132))
SM4_MATERIAL = bytes(range(200, 216))
PLAINTEXT = b"canary plaintext, 32 bytes long."
KEY_ID = "23e80852-1e38-11e9-b129-5cb9019b4b01"
VERSION_ID = "6f1e3c1e-1111-4111-8111-000000000001"
PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def pair() -> tuple[str, list[bytes]]:
    """An RSA pair as PEM, and what must not be seen of it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    numbers = key.private_numbers()
    secrets = [number.to_bytes(128, "big") for number in (numbers.p, numbers.q)]
    return pem.decode(), [*secrets, numbers.d.to_bytes(256, "big")]


def version(number: int, material: str) -> dict[str, str]:
    return {
        "version_id": f"6f1e3c1e-1111-4111-8111-{number:012d}",
        "made_at": "2024-01-01T00:00:00Z",
        "material": material,
    }


def seed(pem: str) -> dict[str, Any]:
    """A seed of one key of each kind with known material."""
    made = "2024-01-01T00:00:00Z"
    aes, sm4 = (base64.b64encode(m).decode() for m in (MATERIAL, SM4_MATERIAL))
    return {
        "format": "kmslab-seed-1",
        "keys": [
            {
                "provider": "tencent",
                "key_id": KEY_ID,
                "alias": "orders",
                "created_at": made,
                "versions": [version(1, aes)],
            },
            {
                "provider": "ctyun",
                "key_id": KEY_ID.replace("23e8", "23e9"),
                "alias": "sm4",
                "spec": "SM4",
                "created_at": made,
                "versions": [version(2, sm4)],
            },
            {
                "provider": "ctyun",
                "key_id": KEY_ID.replace("23e8", "23ea"),
                "alias": "pair",
                "spec": "RSA_2048",
                "created_at": made,
                "versions": [version(3, pem)],
            },
        ],
    }


class Canaries:
    """A lab full of known secrets, and the search for them."""

    def __init__(self, folder: Path, lab: Lab, secrets: list[bytes]) -> None:
        self.folder = folder
        self.lab = lab
        self.root = base64.b64decode((folder / "lab" / "root.key").read_text().split()[1])
        self._secrets = secrets

    def add(self, secret: bytes) -> bytes:
        self._secrets.append(secret)
        return secret

    def seen_in(self, text: str | bytes) -> list[tuple[bytes, list[str]]]:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        found = ((secret, leaks(secret, data)) for secret in self._secrets)
        return [(secret, where) for secret, where in found if where]

    def search_files(self) -> None:
        for name, data in files(self.folder).items():
            assert not self.seen_in(data), name


@pytest.fixture
def canaries(
    tmp_path: Path, manual_clock: ManualClock, pair: tuple[str, list[bytes]]
) -> Iterator[Canaries]:
    pem, numbers = pair
    seed_file = tmp_path / "seed.yaml"
    seed_file.write_text(json.dumps(seed(pem)))
    folder = tmp_path / "files"
    folder.mkdir()
    with Lab.create(folder / "lab", clock=manual_clock) as lab:
        lab.seed(seed_file)
        secrets = [MATERIAL, SM4_MATERIAL, PLAINTEXT, *numbers]
        yield Canaries(folder, lab, secrets)


def use(lab: Lab) -> list[str]:
    """Use every kind of key, well and badly, so that every cache is filled."""
    tencent, ctyun = lab.tencent(), lab.ctyun()
    blob = tencent.encrypt(KEY_ID, PLAINTEXT, context={"app": "orders"})
    other = ctyun.encrypt("sm4", PLAINTEXT)
    tencent.decrypt(blob, context={"app": "orders"})
    ctyun.decrypt(other)
    pair = lab.key("pair")
    public = ctyun.asymmetric_encrypt(
        pair.key_id, pair.versions[0].version_id, "RSAES_OAEP_SHA_256", PLAINTEXT
    )
    ctyun.asymmetric_decrypt(pair.key_id, pair.versions[0].version_id, "RSAES_OAEP_SHA_256", public)
    lab.rotate(KEY_ID)
    moved = tencent.re_encrypt(blob, source_context={"app": "orders"}).ciphertext_blob
    tencent.re_encrypt_many([moved, blob, "nonsense"], verify=True)
    for bad in (blob, "nonsense", blob[:-8] + "AAAAAAA="):
        with pytest.raises(KmslabError):
            tencent.decrypt(bad)
    return [blob, other, public, moved]


def test_the_search_finds_what_is_there(canaries: Canaries) -> None:
    for text in (MATERIAL, MATERIAL.hex(), base64.b64encode(b"ab" + MATERIAL), repr(MATERIAL)):
        assert canaries.seen_in(text)


def test_no_file_holds_a_secret(canaries: Canaries) -> None:
    lab = canaries.lab
    for number in range(3):
        canaries.add(lab.credentials.create(f"app{number}").secret_key.expose())
    blobs = use(lab)
    lab.audit.verify()
    canaries.search_files()
    lab.rekey()
    canaries.search_files()
    lab.export_bundle(canaries.folder / "bundle", PASSPHRASE)
    canaries.search_files()
    lab.close()
    canaries.search_files()
    assert not any(
        blob.encode() in data for blob in blobs for data in files(canaries.folder).values()
    )


def test_no_log_holds_a_secret(
    canaries: Canaries, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy.engine", "sqlalchemy.pool"):
        caplog.set_level(logging.DEBUG, logger=name)
    use(canaries.lab)
    canaries.lab.rekey()
    assert caplog.records
    for record in caplog.records:
        assert not canaries.seen_in(record.getMessage())
    assert not canaries.seen_in("".join(capfd.readouterr()))


def things(lab: Lab) -> dict[str, object]:
    """Everything of kmslab that holds a secret, or holds what holds one."""
    use(lab)
    keystore = lab._keystore
    unit = keystore.unit(KEY_ID)
    tencent, ctyun = lab.tencent(), lab.ctyun()
    new = lab.credentials.create("app")
    return {
        "lab": lab,
        "keystore": keystore,
        "unit": unit,
        "handle": unit.primary,
        "handles": keystore.handles,
        "cipher": unit.primary.cipher if unit.primary else None,
        "ciphers": [handle.cipher for handle in keystore.handles.values()],
        "rows": [unit.row, unit.versions],
        "key": lab.key(KEY_ID),
        "subkeys": keystore.subkeys,
        "material": keystore.material(keystore.handles[VERSION_ID]),
        "secret": Secret(MATERIAL),
        "plaintext": Plaintext(PLAINTEXT),
        "decrypted": tencent.decrypt(tencent.encrypt(KEY_ID, PLAINTEXT)),
        "data key": tencent.generate_data_key(KEY_ID, number_of_bytes=32),
        "result": tencent.re_encrypt(tencent.encrypt(KEY_ID, PLAINTEXT)),
        "batch": tencent.re_encrypt_many([tencent.encrypt(KEY_ID, PLAINTEXT)], verify=True),
        "credential": new,
        "credentials": keystore.credentials,
        "passphrase": Passphrase.of(PASSPHRASE),
        "root key file": RootKeyFile(Path("root.key")),
        "tencent": tencent,
        "ctyun": ctyun,
        "session": tencent._session,
        "counters": lab._grounds.counters,
        "audit": lab.audit.entries(),
    }


@pytest.fixture
def shown(canaries: Canaries) -> dict[str, object]:
    found = things(canaries.lab)
    canaries.add(canaries.root)
    new = found["credential"]
    canaries.add(new.secret_key.expose())  # type: ignore[attr-defined]
    data_key = found["data key"]
    canaries.add(bytes(data_key.plaintext))  # type: ignore[attr-defined]
    canaries.add(PASSPHRASE.encode())
    return found


def test_no_text_of_anything_holds_a_secret(canaries: Canaries, shown: dict[str, object]) -> None:
    for name, thing in shown.items():
        texts = [repr(thing), str(thing), f"{thing}", f"{thing!r:>200}", f"{thing} {thing!r}"]
        for text in texts:
            assert not canaries.seen_in(text), name


def test_no_pickle_holds_a_secret(canaries: Canaries, shown: dict[str, object]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for name, thing in shown.items():
            file = io.BytesIO()
            with suppress(TypeError, pickle.PicklingError, AttributeError):
                pickle.Pickler(file, protocol).dump(thing)
            # What was written before it was refused counts too.
            assert not canaries.seen_in(file.getvalue()), name
    for name in ("secret", "plaintext", "subkeys", "credential", "passphrase"):
        for make in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                make(shown[name])


def shown_traceback(error: BaseException) -> str:
    """The traceback of an error with the local variables of every frame, causes and all."""
    found = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(found.format())


def fails(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    # This file's own frames know the secrets.
    at = caught.value.__traceback__
    while at is not None and "kmslab" not in at.tb_frame.f_globals.get("__name__", ""):
        at = at.tb_next
    return caught.value.with_traceback(at)


def errors(canaries: Canaries, tmp_path: Path, pem: str) -> Iterator[tuple[str, BaseException]]:
    """An error of every kind that is raised where secrets are near."""
    lab, folder = canaries.lab, canaries.folder
    tencent = lab.tencent()
    blob = tencent.encrypt(KEY_ID, PLAINTEXT)
    yield "wrong context", fails(lambda: tencent.decrypt(blob, context={"a": "b"}))
    yield "foreign blob", fails(lambda: tencent.decrypt(blob[:-4] + "AAA="))
    lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    yield "bundle exists", fails(lambda: lab.export_bundle(tmp_path / "bundle", PASSPHRASE))
    with Lab.in_memory() as other:
        other.tencent().create_key("orders")
        taken_in = lambda: other.import_bundle(tmp_path / "bundle", PASSPHRASE)  # noqa: E731
        yield "alias of the bundle in use", fails(taken_in)
        yield "wrong passphrase", fails(lambda: other.import_bundle(tmp_path / "bundle", "no"))
        for number, spoil in enumerate(SPOILED_SEEDS):
            spoiled = seed(pem)
            spoil(spoiled)
            file = tmp_path / f"seed{number}.yaml"
            file.write_text(json.dumps(spoiled))
            yield f"seed {number}", fails(lambda file=file: other.seed(file))  # type: ignore[misc]
        file = tmp_path / "half.yaml"
        file.write_text(json.dumps(seed(pem))[:-10])
        yield "half a seed", fails(lambda: other.seed(file))
    root = folder / "lab" / "root.key"
    kept = root.read_text()
    for name, text in {"cut": kept[:-3], "letter": kept + "x", "two": kept * 2}.items():
        root.write_text(text)
        yield f"root key {name}", fails(lambda: Lab.open(folder / "lab"))
    root.write_text(kept)
    lab._keystore.flush()
    execute(folder / "lab", "UPDATE versions SET sealed = substr(sealed, 2)")
    yield "tampered", fails(lambda: Lab.open(folder / "lab"))


def spoil_spec(content: dict[str, Any]) -> None:
    content["keys"][0]["spec"] = "SM4"


def spoil_length(content: dict[str, Any]) -> None:
    item = content["keys"][0]["versions"][0]
    item["material"] = base64.b64encode(MATERIAL + b"x").decode()


def spoil_padding(content: dict[str, Any]) -> None:
    item = content["keys"][0]["versions"][0]
    item["material"] = item["material"].rstrip("=")


def spoil_pem(content: dict[str, Any]) -> None:
    item = content["keys"][2]["versions"][0]
    item["material"] = item["material"].replace("-----END", "----END")


def spoil_alias(content: dict[str, Any]) -> None:
    content["keys"][0]["alias"] = 7


def spoil_last(content: dict[str, Any]) -> None:
    content["keys"][2]["nonsense"] = 7


def spoil_top(content: dict[str, Any]) -> None:
    content["more"] = 7


SPOILED_SEEDS = [
    spoil_spec,
    spoil_length,
    spoil_padding,
    spoil_pem,
    spoil_alias,
    spoil_last,
    spoil_top,
]


def test_no_traceback_holds_a_secret(
    canaries: Canaries, tmp_path: Path, pair: tuple[str, list[bytes]]
) -> None:
    canaries.add(canaries.root)
    canaries.add(base64.b64encode(canaries.root)[:-4])
    pem_body = "".join(pair[0].splitlines()[1:-1])
    for name, error in errors(canaries, tmp_path, pair[0]):
        assert isinstance(error, KmslabError), name
        text = shown_traceback(error)
        assert not canaries.seen_in(text), f"{name}: {text}"
        assert pem_body[64:128] not in text, name
        assert not canaries.seen_in(repr(error) + str(error) + repr(error.args)), name


def test_no_traceback_of_a_failing_trial_holds_a_secret(
    canaries: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmslab.keystore.lifecycle._works", lambda spec, material: False)
    made: list[bytes] = []
    real = canaries.lab._keystore.entropy
    canaries.lab._keystore.entropy = lambda size: made.append(real(size)) or made[-1]  # type: ignore[func-returns-value]
    error = fails(lambda: canaries.lab.rotate(KEY_ID))
    assert isinstance(error, LabError)
    canaries.add(next(data for data in made if len(data) == 32))
    assert not canaries.seen_in(shown_traceback(error))


def test_imported_material_is_in_no_file(lab: Lab, lab_path: Path) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    from kmslab.model import KeyOrigin, OaepAlgorithm

    kms = lab.tencent()
    key = kms.create_key("mine", origin=KeyOrigin.EXTERNAL)
    parameters = kms.get_parameters_for_import(key.key_id, wrapping_algorithm=OaepAlgorithm.SHA_256)
    public = serialization.load_der_public_key(parameters.public_key_der)
    assert isinstance(public, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = base64.b64encode(public.encrypt(MATERIAL, oaep)).decode()
    valid_to = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=30)
    kms.import_key_material(key.key_id, wrapped, parameters.import_token, valid_to=valid_to)
    kms.decrypt(kms.encrypt(key.key_id, PLAINTEXT))
    lab._keystore.flush()
    for name, data in files(lab_path).items():
        assert not leaks(MATERIAL, data), name
        assert not leaks(PLAINTEXT, data), name
