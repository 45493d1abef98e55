"""kmslab encrypt, decrypt, data-key, re-encrypt: calls on data, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kmslab.cli import data_calls
from kmslab.cli.failures import answers
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import (
    Blob,
    Context,
    Json,
    KeyName,
    Provider,
    Region,
    example,
    settings,
)
from kmslab.cli.output import narrate, write_json, write_line

if TYPE_CHECKING:
    from kmslab.lab import Lab
    from kmslab.model import Key, ReEncryptResult

app = typer.Typer(**settings())

Algorithm = Literal["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"]

OutFile = Annotated[
    str | None,
    typer.Option("--out", metavar="FILE", help="Write to a new file that only you may read."),
]


@app.command(
    epilog=example(
        'kmslab encrypt orders --in secret.txt --context \'{"app":"orders"}\'',
        "printf s3cret | kmslab encrypt orders",
    )
)
@opens_lab
def encrypt(
    opening: Opening,
    key: KeyName,
    source: Annotated[
        str, typer.Option("--in", metavar="FILE", help="The plaintext, to the byte; - is stdin.")
    ] = "-",
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Encrypt bytes under a key.

    The blob goes to stdout.
    """
    from kmslab.cli.streams import read_bytes
    from kmslab.inspection import inspect
    from kmslab.keys import kms_of

    data_calls.check_context(context)
    with opening() as lab:
        found = lab.key(key)
        plaintext = read_bytes(source, "the plaintext")
        kms = kms_of(lab, found)
        with answers(found.provider, "Encrypt"):
            blob = data_calls.encrypt(kms, found.key_id, plaintext, context)
    if not as_json:
        write_line(blob)
        return
    head = inspect(blob)
    write_json(
        {
            "ciphertext_blob": blob,
            "provider": found.provider,
            "key_id": head.key_id,
            "key_version_id": head.key_version_id,
        }
    )


@app.command(epilog=example('kmslab decrypt "$BLOB" --context \'{"app":"orders"}\''))
@opens_lab
def decrypt(
    opening: Opening,
    blob: Blob,
    context: Context = None,
    out: OutFile = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The pair that public-key ciphertext is for."),
    ] = None,
    key_version: Annotated[
        str | None,
        typer.Option("--key-version", metavar="ID", help="The pair's version (CTyun)."),
    ] = None,
    algorithm: Annotated[
        Algorithm | None,
        typer.Option("--algorithm", help="What the public-key ciphertext was made with."),
    ] = None,
    provider: Provider = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Decrypt a blob.

    The bytes go to stdout, just as they are; in JSON as base64. Public-key ciphertext names no key:
    it needs --key and --algorithm, and --key-version at CTyun.
    """
    from kmslab.cli.providers import explanation, kms_for, pair_explanation
    from kmslab.cli.streams import read_text, write_bytes, write_private_file
    from kmslab.encoding import b64

    data_calls.check_context(context)
    with opening() as lab:
        text = read_text(blob, "a blob")
        pair = None if key is None else lab.key(key)
        kms = kms_for(lab, text, provider, region, pair)
        if pair is None:
            with answers(kms.provider, "Decrypt", lambda: explanation(kms, text, context)):
                plaintext = data_calls.decrypt(kms, text, context)
        else:
            with answers(kms.provider, "AsymmetricRsaDecrypt", lambda: pair_explanation(text)):
                plaintext = data_calls.decrypt_with_pair(kms, pair, key_version, algorithm, text)
    if out is not None:
        write_private_file(out, plaintext)
        narrate(f"{len(plaintext)} bytes are in {out}")
    if as_json:
        write_json({"plaintext": None if out else b64(plaintext), "bytes": len(plaintext)})
    elif out is None:
        write_bytes(plaintext)


@app.command("data-key", epilog=example("kmslab data-key orders --out data.key"))
@opens_lab
def data_key(
    opening: Opening,
    key: KeyName,
    spec: Annotated[
        Literal["AES_256", "AES_128"], typer.Option("--spec", help="What it is for.")
    ] = "AES_256",
    number_of_bytes: Annotated[
        int | None, typer.Option("--bytes", metavar="N", help="Its length instead: 1 to 1024.")
    ] = None,
    context: Context = None,
    out: OutFile = None,
    without_plaintext: Annotated[
        bool, typer.Option("--without-plaintext", help="Only the blob is wanted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a data key, in the clear and as a blob.

    The blob goes to stdout, the data key itself to --out. --json gives both, the data key as
    base64, unless it goes to a file or is not wanted.
    """
    from kmslab.cli.streams import write_private_file
    from kmslab.encoding import b64
    from kmslab.errors import SettingError
    from kmslab.keys import kms_of

    if out is not None and without_plaintext:
        raise SettingError("give --out or --without-plaintext, not both")
    data_calls.check_context(context)
    with opening() as lab:
        found = lab.key(key)
        kms = kms_of(lab, found)
        with answers(found.provider, "GenerateDataKey"):
            made = data_calls.data_key(
                kms, found.key_id, spec, number_of_bytes, context, blob_only=without_plaintext
            )
    if out is not None and made.plaintext is not None:
        write_private_file(out, made.plaintext)
        narrate(f"the data key, {len(made.plaintext)} bytes, is in {out}")
    if not as_json:
        if out is None and not without_plaintext:
            narrate("the data key itself is not kept: --out FILE writes it, --json gives it")
        write_line(made.ciphertext_blob)
        return
    given = made.plaintext is not None and out is None and not without_plaintext
    write_json(
        {
            "ciphertext_blob": made.ciphertext_blob,
            "plaintext": b64(made.plaintext) if given and made.plaintext is not None else None,
            "key_id": made.key_id,
            "key_version_id": made.key_version_id,
            "request_id": made.request_id,
        }
    )


@app.command(
    "re-encrypt",
    epilog=example(
        'kmslab re-encrypt "$BLOB" --source-context \'{"app":"orders"}\' --keep-context',
        'kmslab re-encrypt "$BLOB" --to payments',
    ),
)
@opens_lab
def re_encrypt(
    opening: Opening,
    blob: Blob,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="KEY", help="The destination; else its own key."),
    ] = None,
    source_context: Annotated[
        str | None,
        typer.Option("--source-context", metavar="JSON", help="The context that it has."),
    ] = None,
    destination_context: Annotated[
        str | None,
        typer.Option("--destination-context", metavar="JSON", help="The context that it gets."),
    ] = None,
    keep_context: Annotated[
        bool, typer.Option("--keep-context", help="It keeps the context that it has.")
    ] = False,
    source_key: Annotated[
        str | None,
        typer.Option("--source-key", metavar="KEY", help="The pair of public-key ciphertext."),
    ] = None,
    source_key_version: Annotated[
        str | None, typer.Option("--source-key-version", metavar="ID", help="The pair's version.")
    ] = None,
    source_algorithm: Annotated[
        Algorithm | None, typer.Option("--source-algorithm", help="What it was made with.")
    ] = None,
    provider: Provider = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Re-encrypt a blob to its key's primary version or another key.

    The new blob goes to stdout. As in the API, a context that is not given for the destination is
    dropped. Public-key ciphertext (CTyun) needs --to and the three --source options.
    """
    from kmslab.cli.providers import explanation, kms_for, pair_explanation
    from kmslab.cli.streams import read_text
    from kmslab.inspection import inspect

    after = data_calls.destination_context(source_context, destination_context, keep_context)
    with opening() as lab:
        text = read_text(blob, "a blob")
        destination = None if to is None else lab.key(to)
        pair = None if source_key is None else lab.key(source_key)
        source = data_calls.Source(
            source_context,
            None if pair is None else pair.key_id,
            source_key_version,
            source_algorithm,
        )
        kms = kms_for(lab, text, provider, region, pair)

        def explain() -> str:
            if pair is not None and inspect(text).key_id is None:
                return pair_explanation(text)
            return explanation(kms, text, source_context)

        with answers(kms.provider, "ReEncrypt", explain):
            result = data_calls.re_encrypt(kms, text, destination, source, after)
        told = _told(lab, result)
    if as_json:
        write_json(result)
        return
    narrate(told)
    if source_context and not after:
        narrate("the new blob has no context; --keep-context keeps it")
    write_line(result.ciphertext_blob)


def _told(lab: Lab, result: ReEncryptResult) -> str:
    """What a re-encryption did, in one line."""
    source = _version(lab.key(result.source_key_id or ""), result.source_key_version_id)
    if not result.re_encrypted:
        return f"unchanged: it is on the primary version already, {source}"
    return f"from {source} to {_version(lab.key(result.key_id), result.key_version_id)}"


def _version(key: Key, version_id: str | None) -> str:
    number = next(v.number for v in key.versions if v.version_id == version_id)
    return f"{key.alias or key.key_id} version {number}"
