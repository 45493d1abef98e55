"""kmslab key: keys and their versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kmslab.cli import key_calls
from kmslab.cli.failures import answers
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import (
    Json,
    KeyName,
    Provider,
    ProviderName,
    Region,
    example,
    settings,
)
from kmslab.cli.output import narrate, write_fields, write_json, write_line, write_table
from kmslab.keys import create_key, key_name, kms_in, kms_of, set_rotation

if TYPE_CHECKING:
    from kmslab.keys import LabKms
    from kmslab.model import Key

app = typer.Typer(
    name="key",
    help="Create, show, rotate, enable, disable and delete keys.",
    epilog=example("kmslab key list"),
    no_args_is_help=True,
    **settings(),
)


@app.command(epilog=example("kmslab key create --provider tencent --alias orders"))
@opens_lab
def create(
    opening: Opening,
    provider: Annotated[ProviderName, typer.Option("--provider", help="Whose key it is.")],
    alias: Annotated[
        str, typer.Option("--alias", metavar="NAME", help="A name for it; Tencent's needs one.")
    ] = "",
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="What it is for.")
    ] = "",
    spec: Annotated[
        Literal["AES_256", "SM4", "RSA_2048"], typer.Option("--spec", help="What its material is.")
    ] = "AES_256",
    external: Annotated[
        bool, typer.Option("--external", help="Its material is imported (Tencent).")
    ] = False,
    rotation_days: Annotated[
        int | None,
        typer.Option("--rotation-days", metavar="N", help="Rotate it by itself, every N days."),
    ] = None,
    region: Region = None,
    as_json: Json = False,
) -> None:
    """Create a key.

    Its id goes to stdout.
    """
    from kmslab.model import KeySpec

    with opening() as lab:
        kms = kms_in(lab, provider, region)
        with answers(provider, "CreateKey"):
            key = create_key(
                kms,
                alias,
                description=description,
                spec=KeySpec(spec),
                rotation_days=rotation_days,
                external=external,
                tell=narrate,
            )
    if as_json:
        write_json(key)
        return
    narrate(f"created {key_name(key)}: {key.spec.value} of {key.provider} in {key.region}")
    write_line(key.key_id)


@app.command("list", epilog=example("kmslab key list --provider ctyun"))
@opens_lab
def list_(
    opening: Opening,
    provider: Provider = None,
    everything: Annotated[bool, typer.Option("--all", help="Deleted keys too.")] = False,
    as_json: Json = False,
) -> None:
    """List the keys of every region, oldest first."""
    from kmslab.model import KeyState

    with opening() as lab:
        found = lab.keys()
    keys = [key for key in found if provider in (None, key.provider)]
    listed = [key for key in keys if everything or key.state is not KeyState.DELETED]
    if hidden := len(keys) - len(listed):
        narrate(f"{hidden} deleted keys are not listed; --all lists them")
    if as_json:
        write_json(listed)
        return
    if not listed:
        narrate("no keys; `kmslab key create` makes one")
        return
    rows = [[k.key_id, k.alias, k.provider, k.spec.value, k.state.value] for k in listed]
    write_table(["KEY", "ALIAS", "PROVIDER", "SPEC", "STATE"], rows)


@app.command(epilog=example("kmslab key show orders"))
@opens_lab
def show(opening: Opening, key: KeyName, as_json: Json = False) -> None:
    """Show what the lab knows of a key.

    Its material is never shown.
    """
    with opening() as lab:
        found = lab.key(key)
    if as_json:
        write_json(found)
        return
    primary = found.primary
    rotation = "off" if found.rotation_days is None else f"every {found.rotation_days} days"
    write_fields(
        [
            ("key", found.key_id),
            ("alias", found.alias or None),
            ("description", found.description or None),
            ("provider", found.provider),
            ("region", found.region),
            ("spec", found.spec.value),
            ("material", "made by the KMS" if found.origin.value == "kms" else "imported"),
            ("material until", found.material_expires_at),
            ("state", found.state.value),
            ("created", found.created_at),
            ("deletion", found.deletion_at),
            ("versions", len(found.versions)),
            ("primary", f"version {primary.number}: {primary.version_id}" if primary else None),
            ("rotation", rotation),
            ("last rotation", found.last_rotated_at),
            ("next rotation", found.next_rotation_at),
        ]
    )


@app.command(epilog=example("kmslab key versions orders"))
@opens_lab
def versions(opening: Opening, key: KeyName, as_json: Json = False) -> None:
    """List the versions of a key, oldest first.

    ENCRYPTIONS is at least the number of blobs made under a version, never less.
    """
    with opening() as lab:
        found = lab.key(key)
    if as_json:
        write_json(found.versions)
        return
    columns = ["NUMBER", "VERSION", "MADE", "PRIMARY", "ENCRYPTIONS"]
    rows = [
        [
            version.number,
            version.version_id,
            version.made_at,
            version.version_id == found.primary_version_id,
            version.encryptions,
        ]
        for version in found.versions
    ]
    if not all(version.has_material for version in found.versions):
        columns.append("MATERIAL")
        for row, version in zip(rows, found.versions, strict=True):
            row.append("there" if version.has_material else "none")
    write_table(columns, rows)


@app.command(epilog=example("kmslab key rotate orders"))
@opens_lab
def rotate(opening: Opening, key: KeyName, as_json: Json = False) -> None:
    """Make a new version of a key now.

    Of a symmetric key it becomes the primary one. This is the lab's own and works at any time:
    `kmslab call tencent RotateKey` keeps the cloud's rules. The version's id goes to stdout.
    Blobs stay on the version that they were made under until they are re-encrypted.
    """
    with opening() as lab:
        found = lab.key(key)
        with answers(found.provider, "RotateKey"):
            found = lab.rotate(found.key_id)
    if as_json:
        write_json(found)
        return
    newest = found.versions[-1]
    narrate(f"{key_name(found)} has version {newest.number}")
    write_line(newest.version_id)


@app.command(epilog=example("kmslab key enable orders"))
@opens_lab
def enable(opening: Opening, key: KeyName, as_json: Json = False) -> None:
    """Enable a disabled key."""
    _change(opening, key, as_json, "EnableKey", lambda kms, key_id: kms.enable_key(key_id))


@app.command(epilog=example("kmslab key disable orders"))
@opens_lab
def disable(opening: Opening, key: KeyName, as_json: Json = False) -> None:
    """Disable a key.

    It neither encrypts nor decrypts until it is enabled again.
    """
    _change(opening, key, as_json, "DisableKey", lambda kms, key_id: kms.disable_key(key_id))


@app.command(epilog=example("kmslab key alias orders orders-2026"))
@opens_lab
def alias(
    opening: Opening,
    key: KeyName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new alias.")],
    as_json: Json = False,
) -> None:
    """Give a key another alias."""
    _change(opening, key, as_json, "UpdateAlias", lambda kms, key_id: kms.update_alias(key_id, new))


@app.command(epilog=example("kmslab key rotation orders --days 90"))
@opens_lab
def rotation(
    opening: Opening,
    key: KeyName,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", help="Every N days, from now on.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="No longer.")] = False,
    as_json: Json = False,
) -> None:
    """Have a key rotated automatically, or no longer."""
    from kmslab.errors import SettingError

    if (days is None) is not off:
        raise SettingError("give --days N or --off")
    action = "DisableKeyRotation" if off else "EnableKeyRotation"
    _change(opening, key, as_json, action, lambda kms, key_id: set_rotation(kms, key_id, days))


@app.command("schedule-deletion", epilog=example("kmslab key schedule-deletion orders --days 7"))
@opens_lab
def schedule_deletion(
    opening: Opening,
    key: KeyName,
    days: Annotated[
        int, typer.Option("--days", metavar="N", help="In N days: 7 to 30.", show_default=True)
    ] = 30,
    as_json: Json = False,
) -> None:
    """Have a key deleted, with its material, in some days.

    A key of Tencent's must be disabled first. What was encrypted under the key is lost then, unless
    it was re-encrypted to another one. Until then the deletion can be cancelled.
    """
    _change(
        opening,
        key,
        as_json,
        "ScheduleKeyDeletion",
        lambda kms, key_id: kms.schedule_key_deletion(key_id, days),
    )


@app.command("cancel-deletion", epilog=example("kmslab key cancel-deletion orders"))
@opens_lab
def cancel_deletion(opening: Opening, key: KeyName, as_json: Json = False) -> None:
    """Cancel a scheduled deletion.

    A key of Tencent's is disabled then, one of CTyun's enabled.
    """
    _change(
        opening,
        key,
        as_json,
        "CancelKeyDeletion",
        lambda kms, key_id: kms.cancel_key_deletion(key_id),
    )


@app.command(epilog=example("kmslab key archive orders"))
@opens_lab
def archive(
    opening: Opening,
    key: KeyName,
    cancel: Annotated[bool, typer.Option("--cancel", help="Bring it back.")] = False,
    as_json: Json = False,
) -> None:
    """Archive a key of Tencent's, or bring it back.

    An archived key decrypts, and no longer encrypts.
    """
    action = "CancelKeyArchive" if cancel else "ArchiveKey"
    _change(
        opening,
        key,
        as_json,
        action,
        lambda kms, key_id: key_calls.archive(kms, key_id, cancel=cancel),
    )


@app.command("import-material", epilog=example("kmslab key import-material orders material.bin"))
@opens_lab
def import_material(
    opening: Opening,
    key: KeyName,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="The raw bytes of the material, or - for stdin.")
    ],
    valid_to: Annotated[
        str | None,
        typer.Option("--valid-to", metavar="TIME", help="When it expires, in ISO 8601."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import the material of an external key of Tencent's.

    32 bytes for AES_256, 16 for SM4. It is wrapped with RSA-OAEP on the way, as the cloud asks.
    """
    from kmslab.cli.streams import read_bytes
    from kmslab.records.columns import parse_time

    until = None if valid_to is None else parse_time(valid_to)
    material = read_bytes(file, "the material")
    _change(
        opening,
        key,
        as_json,
        "ImportKeyMaterial",
        lambda kms, key_id: key_calls.import_material(kms, key_id, material, until),
    )


@app.command("public-key", epilog=example("kmslab key public-key signing > public.pem"))
@opens_lab
def public_key(
    opening: Opening,
    key: KeyName,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="ID", help="A version's id; else the newest (CTyun)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Give the public key of a pair, as PEM text."""

    with opening() as lab:
        found = lab.key(key)
        kms = kms_of(lab, found)
        with answers(found.provider, "GetPublicKey"):
            public = key_calls.public_key(kms, found, version)
    if as_json:
        names = ("key_id", "key_version_id", "pem")
        write_json({name: getattr(public, name) for name in names})
    else:
        write_line(public.pem.rstrip("\n"))


def _change(
    opening: Opening,
    name: str,
    as_json: bool,
    action: str,
    change: Callable[[LabKms, str], Key],
) -> None:
    """Change a key by the rules of its provider, and say what it is then."""

    with opening() as lab:
        found = lab.key(name)
        kms = kms_of(lab, found)
        with answers(found.provider, action):
            key = change(kms, found.key_id)
    if as_json:
        write_json(key)
    else:
        narrate(f"{key_name(key)} is {_state(key)}")


def _state(key: Key) -> str:
    from kmslab.cli.output import shown

    state = key.state.value
    if key.deletion_at is not None:
        state += f", to be deleted on {shown(key.deletion_at)}"
    if key.rotation_days is not None:
        state += f", rotated every {key.rotation_days} days, next on {shown(key.next_rotation_at)}"
    return state
