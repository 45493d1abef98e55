"""kmslab encrypt, decrypt, data-key, re-encrypt, inspect, call, audit, credential, census."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from command_line import Run

from kmslab.crypto import load_rsa_public, oaep_encrypt
from kmslab.lab import Lab
from kmslab.model import OaepAlgorithm

CONTEXT = '{"app":"orders"}'
BYTES = bytes(range(256))


@pytest.mark.parametrize("key", ["orders", "pay"])
def test_bytes_come_back_as_they_were(run: Run, key: str, tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_bytes(BYTES)
    from_file = run("encrypt", key, "--in", str(file)).stdout.strip()
    from_stdin = run("encrypt", key, stdin=BYTES).stdout.strip()
    for blob in (from_file, from_stdin):
        assert run("decrypt", blob).stdout_bytes == BYTES
    assert run("decrypt", "-", stdin=f"{from_file}\n").stdout_bytes == BYTES
    found = json.loads(run("decrypt", from_file, "--json").stdout)
    assert base64.b64decode(found["plaintext"]) == BYTES
    assert found["bytes"] == len(BYTES)


def test_a_decrypted_file_is_new_and_private(run: Run, tmp_path: Path) -> None:
    blob = run("encrypt", "orders", stdin=BYTES).stdout.strip()
    result = run("decrypt", blob, "--out", "plain")
    assert result.stdout == ""
    assert "256 bytes are in plain" in result.stderr
    assert (tmp_path / "plain").read_bytes() == BYTES
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o600
    assert run("decrypt", blob, "--out", "plain").exit_code == 2
    found = json.loads(run("decrypt", blob, "--out", "other", "--json").stdout)
    assert found == {"plaintext": None, "bytes": 256}


def test_encrypt_in_json_names_key_and_version(run: Run, lab: Lab) -> None:
    found = json.loads(run("encrypt", "pay", "--json", stdin=b"secret").stdout)
    key = lab.key("pay")
    assert found["provider"] == "ctyun"
    assert (found["key_id"], found["key_version_id"]) == (key.key_id, key.primary_version_id)
    assert run("decrypt", found["ciphertext_blob"]).stdout == "secret"


def test_a_context_must_come_back(run: Run) -> None:
    blob = run("encrypt", "orders", "--context", CONTEXT, stdin=b"secret").stdout.strip()
    assert run("decrypt", blob, "--context", CONTEXT).stdout == "secret"
    assert run("decrypt", blob).exit_code == 1
    assert run("decrypt", blob, "--context", '{ "app":"orders"}').exit_code == 1


def test_a_data_key_that_is_not_kept_is_told_of(run: Run) -> None:
    told = run("data-key", "orders").stderr
    assert "not kept" in told
    assert "--out" in told
    assert "--json" in told
    for args in (["--out", "data.key"], ["--without-plaintext"], ["--json"]):
        assert "not kept" not in run("data-key", "orders", *args).stderr


@pytest.mark.parametrize("key", ["orders", "pay"])
def test_data_keys(run: Run, lab: Lab, key: str, tmp_path: Path) -> None:
    result = run("data-key", key, "--out", "data.key")
    assert (
        run("decrypt", result.stdout.strip()).stdout_bytes == (tmp_path / "data.key").read_bytes()
    )
    assert (tmp_path / "data.key").stat().st_mode & 0o777 == 0o600
    found = json.loads(run("data-key", key, "--bytes", "5", "--json").stdout)
    assert len(base64.b64decode(found["plaintext"])) == 5
    assert found["key_version_id"] == lab.key(key).primary_version_id
    result = run("data-key", key, "--spec", "AES_128", "--without-plaintext", "--json")
    found = json.loads(result.stdout)
    assert found["plaintext"] is None
    assert len(run("decrypt", found["ciphertext_blob"]).stdout_bytes) == 16


def test_re_encrypt_to_the_primary_version(run: Run, lab: Lab) -> None:
    blob = run("encrypt", "orders", stdin=b"secret").stdout.strip()
    same = run("re-encrypt", blob)
    assert same.stdout.strip() == blob
    assert "unchanged" in same.stderr
    run("key", "rotate", "orders")
    result = run("re-encrypt", "-", stdin=blob)
    assert "from orders version 1 to orders version 2" in result.stderr
    found = json.loads(run("re-encrypt", blob, "--json").stdout)
    assert found["re_encrypted"] is True
    assert found["key_version_id"] == lab.key("orders").primary_version_id
    assert found["source_key_version_id"] == lab.key("orders").versions[0].version_id
    assert run("decrypt", found["ciphertext_blob"]).stdout == "secret"


def test_re_encrypt_of_ctyun_goes_to_the_key_that_the_blob_names(run: Run, lab: Lab) -> None:
    run("key", "create", "--provider", "ctyun", "--alias", "far", "--region", "there")
    for alias in ("pay", "far"):
        blob = run("encrypt", alias, stdin=b"secret").stdout.strip()
        run("key", "rotate", alias)
        result = run("re-encrypt", blob)
        assert f"from {alias} version 1 to {alias} version 2" in result.stderr
        assert run("decrypt", result.stdout.strip()).stdout == "secret"


def test_re_encrypt_from_provider_to_provider_is_for_campaigns(run: Run) -> None:
    for key, other in (("orders", "pay"), ("pay", "orders")):
        blob = run("encrypt", key, stdin=b"secret").stdout.strip()
        result = run("re-encrypt", blob, "--to", other)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "tencent" in result.stderr
        assert "ctyun" in result.stderr
        assert "kmslab campaign run SOURCE --to KEY" in result.stderr


def test_re_encrypt_keeps_changes_and_drops_contexts(run: Run) -> None:
    blob = run("encrypt", "orders", "--context", CONTEXT, stdin=b"secret").stdout.strip()
    dropped = run("re-encrypt", blob, "--source-context", CONTEXT)
    assert "has no context" in dropped.stderr
    assert run("decrypt", dropped.stdout.strip()).stdout == "secret"
    kept = run("re-encrypt", blob, "--source-context", CONTEXT, "--keep-context")
    assert kept.stdout.strip() == blob
    args = ["--source-context", CONTEXT, "--destination-context", '{"app":"other"}']
    changed = run("re-encrypt", blob, *args).stdout.strip()
    assert run("decrypt", changed, "--context", '{"app":"other"}').stdout == "secret"


@pytest.mark.parametrize("provider", ["tencent", "ctyun"])
def test_re_encrypt_to_another_key(run: Run, provider: str) -> None:
    for alias in ("one", "two"):
        run("key", "create", "--provider", provider, "--alias", alias, "--region", "there")
    blob = run("encrypt", "one", stdin=b"secret").stdout.strip()
    result = run("re-encrypt", blob, "--to", "two")
    assert "from one version 1 to two version 1" in result.stderr
    assert run("decrypt", result.stdout.strip()).stdout == "secret"
    assert run("decrypt", blob, "--region", "elsewhere").exit_code == 1


@pytest.mark.parametrize("provider", ["tencent", "ctyun"])
def test_public_key_ciphertext(run: Run, lab: Lab, provider: str) -> None:
    run("key", "create", "--provider", provider, "--alias", "pair", "--spec", "RSA_2048")
    pem = run("key", "public-key", "pair").stdout.encode()
    algorithm = OaepAlgorithm.SHA_256
    sealed = oaep_encrypt(load_rsa_public(pem), algorithm, b"secret")
    blob = base64.b64encode(sealed).decode()
    version = lab.key("pair").versions[0].version_id
    key = ["--key", "pair", "--algorithm", algorithm.value]
    named = ["--key-version", version]
    right, wrong = (named, []) if provider == "ctyun" else ([], named)
    assert run("decrypt", blob, *key, *right).stdout == "secret"
    assert run("decrypt", blob, *key, *wrong).exit_code == 1
    source = ["--source-key", "pair", "--source-key-version", version]
    args = [*source, "--source-algorithm", algorithm.value, "--to", "pay"]
    result = run("re-encrypt", blob, *args)
    if provider == "tencent":
        assert result.exit_code == 1
        return
    assert run("decrypt", result.stdout.strip()).stdout == "secret"
    result = run("re-encrypt", blob, *source, "--to", "pay")
    assert "KMS.0114" in result.stderr


def sealed_for(lab: Lab, alias: str) -> str:
    """Ciphertext for the public key of a pair."""
    pair = lab.key(alias)
    if pair.provider == "tencent":
        public = lab.tencent().get_public_key(pair.key_id)
    else:
        public = lab.ctyun().get_public_key(pair.key_id, pair.versions[0].version_id)
    key = load_rsa_public(public.der)
    return base64.b64encode(oaep_encrypt(key, OaepAlgorithm.SHA_256, b"secret")).decode()


def test_public_key_ciphertext_is_explained_by_what_was_given(run: Run, lab: Lab) -> None:
    for provider in ("tencent", "ctyun"):
        run("key", "create", "--provider", provider, "--alias", provider, "--spec", "RSA_2048")
    version = lab.key("ctyun").versions[0].version_id
    wrong = "RSAES_OAEP_SHA_1"
    pair = ["--key", "ctyun", "--key-version", version, "--algorithm", wrong]
    source = ["--source-key", "ctyun", "--source-key-version", version]
    source += ["--source-algorithm", wrong, "--to", "pay"]
    given = [
        ["decrypt", sealed_for(lab, "tencent"), "--key", "tencent", "--algorithm", wrong],
        ["decrypt", sealed_for(lab, "ctyun"), *pair],
        ["re-encrypt", sealed_for(lab, "ctyun"), *source],
    ]
    for args in given:
        result = run(*args)
        assert (result.exit_code, result.stdout) == (1, "")
        _, told = result.stderr.splitlines()
        assert told.startswith("The key, its version, the algorithm or the ciphertext is wrong.")
        assert "MGF1" in told
    for args in (["re-encrypt", "c2hvcnQ=", *source], ["decrypt", "c2hvcnQ=", *pair]):
        assert "It is no public-key ciphertext, which is 256 bytes" in run(*args).stderr


def test_public_key_ciphertext_needs_a_destination(run: Run, lab: Lab) -> None:
    run("key", "create", "--provider", "ctyun", "--alias", "pair", "--spec", "RSA_2048")
    result = run("re-encrypt", sealed_for(lab, "pair"))
    assert result.exit_code == 1
    assert "--to is needed" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_inspect_explains_without_a_lab(run: Run, bare_run: Run, lab: Lab) -> None:
    blob = run("encrypt", "orders", stdin=b"secret").stdout.strip()
    shown = bare_run("inspect", blob, KMSLAB_LAB="nowhere")
    assert shown.exit_code == 0
    assert "SEGMENT  OFFSET  BYTES" in shown.stdout
    assert lab.key("orders").key_id in shown.stdout
    found = json.loads(bare_run("inspect", blob, "--json").stdout)
    assert found["key_id"] == lab.key("orders").key_id
    assert found["parts"][0]["name"] == "magic"
    assert bare_run("inspect", "nothing").exit_code == 0


def test_inspect_gives_one_answer_a_line(run: Run) -> None:
    blob = run("encrypt", "pay", stdin=b"secret").stdout.strip()
    lines = [blob.encode(), b"", b"nothing", b"\xff\xfe", "订单".encode()]
    result = run("inspect", "-", "--json", stdin=b"\n".join(lines) + b"\r\n")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["format"] for each in found] == ["lab", *["unknown"] * 4]
    assert found[1]["notes"] == ["empty"]
    shown = run("inspect", "-", stdin=b"\n".join(lines)).stdout
    assert [line for line in shown.splitlines() if line.startswith("line ")] == [
        f"line {number}" for number in range(1, 6)
    ]


def test_call_prints_the_envelope_alone(run: Run, lab: Lab) -> None:
    result = run("call", "tencent", "ListKeys", '{"Limit":10}')
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["Response"]["TotalCount"] == 1
    body = {"cmkUuid": "pay", "plaintext": base64.b64encode(b"secret").decode()}
    result = run("call", "ctyun", "encrypt", "-", stdin=json.dumps(body))
    data = json.loads(result.stdout)["data"]
    assert data["cmkUuid"] == lab.key("pay").key_id
    assert run("decrypt", data["ciphertextBlob"]).stdout == "secret"


def test_call_with_an_error_in_the_envelope(run: Run) -> None:
    result = run("call", "tencent", "ReEncrypt", "{}")
    assert (result.exit_code, result.stderr) == (1, "refused: CiphertextBlob is needed\n")
    assert json.loads(result.stdout)["Response"]["Error"]["Code"] == "MissingParameter"
    result = run("call", "ctyun", "reEncrypt", '{"ciphertextBlob":"x"}')
    assert result.exit_code == 1
    assert json.loads(result.stdout)["errorCode"] == "KMS.0112"
    assert result.stderr == "refused: destinationKeyId is needed\n"
    result = run("call", "ctyun", "reEncrypt", json.dumps({"a\nb": 1}))
    assert len(result.stderr.splitlines()) == 1


def test_call_in_another_language_region_and_name(run: Run, lab: Lab) -> None:
    request = json.dumps({"CiphertextBlob": "nothing"})
    messages = {
        json.loads(run("call", "tencent", "Decrypt", request, *args).stdout)["Response"]["Error"][
            "Message"
        ]
        for args in (["--language", "en-US"], ["--language", "zh-CN"], [])
    }
    assert len(messages) == 2
    found = json.loads(run("call", "tencent", "ListKeys", "--region", "there").stdout)
    assert found["Response"]["TotalCount"] == 0
    run("credential", "create", "ci", "--right", "Decrypt")
    args = ["call", "tencent", "ListKeys", "--credential", "ci", "--rate-limit"]
    result = run(*args)
    assert json.loads(result.stdout)["Response"]["Error"]["Code"] == "UnauthorizedOperation"
    assert result.stderr == ""


def test_credentials(run: Run, lab: Lab) -> None:
    key_id = lab.key("orders").key_id
    rights = ["--right", "ReEncrypt:orders", "--right", "Decrypt"]
    made = json.loads(run("credential", "create", "ci", *rights, "--json").stdout)
    assert made["rights"] == [f"ReEncrypt:{key_id}", "Decrypt"]
    assert len(made["secret_key"]) == 32
    names = [line.split()[0] for line in run("credential", "create", "all").stdout.splitlines()]
    assert names == ["secret_id", "secret_key"]
    listed = run("credential", "list")
    assert made["secret_key"] not in listed.output
    assert "ReEncrypt:orders, Decrypt" in listed.stdout
    assert "everything" in listed.stdout
    assert "is revoked" in run("credential", "revoke", "ci").stderr
    found = json.loads(run("credential", "list", "--json").stdout)
    assert [each["name"] for each in found] == ["ci", "all"]
    assert [each["revoked_at"] is None for each in found] == [False, True]


def test_the_audit_log_is_shown_and_verified(run: Run, lab: Lab) -> None:
    run("encrypt", "orders", "--audit", "sync", stdin=b"canary")
    shown = run("audit", "show")
    assert "canary" not in shown.stdout
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert rows[0] == ["TIME", "WHO", "PROVIDER", "ACTION", "KEY", "OUTCOME", "CALLS"]
    assert ["tencent", "Encrypt", "orders", "ok", "1"] in [row[2:] for row in rows]
    last = json.loads(run("audit", "show", "--last", "1", "--json").stdout)
    assert len(last) == 1
    assert last[0]["at"].endswith("Z")
    result = run("audit", "verify", "--json")
    assert result.exit_code == 0
    check = json.loads(result.stdout)
    assert check["intact"] is True
    assert check["rows"] == len(rows) - 1
    assert "intact" in run("audit", "verify").stdout


def test_a_broken_audit_log_exits_with_1(run: Run, lab_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(lab_path / "lab.db")) as database, database:
        database.execute("update audit set action = 'Nothing' where seq = 1")
    result = run("audit", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["broken_at"] == 1
    assert "row 1" in result.stderr
    for args in ([], ["--json"], ["--last", "1"]):
        result = run("audit", "show", *args)
        assert result.exit_code == 1
        assert "CreateKey" in result.stdout or "createKey" in result.stdout
        assert "row 1 is not what was written" in result.stderr


def test_census(run: Run, lab: Lab, tmp_path: Path) -> None:
    old = run("encrypt", "orders", stdin=b"secret").stdout.strip()
    run("key", "rotate", "orders")
    new = run("encrypt", "orders", stdin=b"secret").stdout.strip()
    cloud = (
        "g2F8eQk44QrTbfj09TL17AZyFPgs8BTtZe2j27Wuw1YzTBCxnd0T/gwFQSasmtzxZi6mmvD7DCjCE+LxJmdhXQ=="
        "-k-zJshb0kBH7C2J5I3XXbbEg==-k-o1O+7H9HFAzWbCkftO2ZtPKewS3diSB4zGKOJhMn7LcKRhYr"
    )
    rows = [("tencent", old), ("tencent", old), ("tencent", new), ("tencent", cloud)]
    lines = [f"{number},{provider},{blob}" for number, (provider, blob) in enumerate(rows)]
    text = "\n".join(["record_id,provider,ciphertext_blob", *lines])
    (tmp_path / "records.csv").write_text(text)
    key = lab.key("orders")
    expected = [
        ("tencent", key.key_id, key.versions[0].version_id, 1, False, 2, False),
        ("tencent", key.key_id, key.versions[1].version_id, 2, True, 1, False),
        ("tencent", None, None, None, None, 1, False),
    ]
    names = ["provider", "key_id", "key_version_id", "version_number", "is_primary", "records"]
    names.append("inferred")
    found = json.loads(run("census", "records.csv", "--json").stdout)
    assert found == [dict(zip(names, row, strict=True)) for row in expected]
    shown = run("census", "records.csv")
    assert [line.split() for line in shown.stdout.splitlines()] == [
        ["PROVIDER", "KEY", "VERSION", "PRIMARY", "RECORDS"],
        ["tencent", "orders", "1", "no", "2"],
        ["tencent", "orders", "2", "yes", "1"],
        ["tencent", "-", "-", "-", "1"],
    ]
    assert "4 records" in shown.stderr


def test_census_of_other_columns(run: Run, tmp_path: Path) -> None:
    blob = run("encrypt", "pay", stdin=b"secret").stdout.strip()
    (tmp_path / "secrets.csv").write_text(f"name,secret,tenant\none,{blob},t\n")
    columns = ["--id-column", "name", "--blob-column", "secret", "--provider", "ctyun"]
    template = ["--context-template", '{"tenant":"{tenant}"}']
    found = json.loads(run("census", "secrets.csv", *columns, *template, "--json").stdout)
    assert [row["records"] for row in found] == [1]
    result = run("census", "secrets.csv", *columns, "--owner-column", "who")
    assert result.exit_code == 2
    assert "'who'" in result.stderr
