"""kmslab lab: a lab as a whole."""

from __future__ import annotations

import json
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmslab.campaign.wording import counted
from kmslab.cli.opening import Opening, Passphrase, RootKey, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_fields, write_json, write_line, write_table

if TYPE_CHECKING:
    from kmslab.lab import LabInfo

app = typer.Typer(
    name="lab",
    help="Make a lab, look at it, set it up, move it.",
    epilog=example("kmslab lab init ./lab"),
    no_args_is_help=True,
    **settings(),
)


@app.command(epilog=example("kmslab lab init ./lab"))
def init(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URL",
            help="The new directory, or the database: postgresql://USER@HOST/DATABASE.",
        ),
    ],
    root_key: RootKey = None,
    passphrase: Passphrase = False,
    as_json: Json = False,
) -> None:
    """Make a lab in a new directory, or in a PostgreSQL database.

    Its root key is a file in the directory, a file at --root-key, or made from a passphrase; a lab
    in a database needs one of the latter. Whoever has the lab and the root key has the keys.
    """
    from kmslab.lab import Lab

    file, text = Opening(root_key=root_key, passphrase=passphrase).protection(confirm=True)
    with Lab.create(path, root_key=file, passphrase=text) as lab:
        made = lab.info()
    if as_json:
        write_json(made)
        return
    narrate(f"made a lab at {made.path}, under {_protection(made)}")
    narrate(f"have every command use it: export KMSLAB_LAB={quote(str(made.path))}")


@app.command(epilog=example("kmslab lab info --json"))
@opens_lab
def info(opening: Opening, as_json: Json = False) -> None:
    """Show a lab's state, settings and generation.

    The generation grows with every change. Who notes it elsewhere can tell with
    --expect-generation when the lab was put back to an older copy.
    """
    with opening() as lab:
        found = lab.info()
    if as_json:
        write_json(found)
        return
    keys = ", ".join(f"{count} {state}" for state, count in found.keys.items())
    write_fields(
        [
            ("lab", found.path),
            ("lab id", found.lab_id),
            ("made", found.created_at),
            ("root key", found.root),
            ("unsafe", "yes: material of its keys was in a seed file" if found.unsafe else "no"),
            ("keys", keys or "none"),
            *((f"setting {name}", value) for name, value in found.settings.items()),
            ("schema", found.schema_version),
            ("generation", found.generation),
            ("audit rows", found.audit_rows),
            ("audit head", found.audit_head or None),
        ]
    )


@app.command("set", epilog=example("kmslab lab set balance=0"))
@opens_lab
def set_(
    opening: Opening,
    setting: Annotated[
        str, typer.Argument(metavar="NAME=VALUE", help="balance=NUMBER or cmk_uuid=WHICH.")
    ],
    as_json: Json = False,
) -> None:
    """Change a setting.

    balance is CTyun's account balance: at 0 or below nothing is encrypted or decrypted. cmk_uuid is
    destination or source: whose key and version CTyun's reEncrypt answers name.
    """
    from kmslab.errors import SettingError

    name, equals, text = setting.partition("=")
    if not equals:
        raise SettingError(f"a setting is given as NAME=VALUE: {setting!r} is not")
    with opening() as lab:
        lab.settings.set(name, _value(text))
        settings_now = lab.settings.all()
    if as_json:
        write_json(settings_now)
    else:
        narrate(f"{name} is {settings_now[name]}")


@app.command(epilog=example("kmslab lab rekey"))
@opens_lab
def rekey(opening: Opening, as_json: Json = False) -> None:
    """Give a lab another root key, or another passphrase.

    Everything is sealed anew in one step; a lab killed in the middle opens. The new passphrase is
    asked for, or comes from KMSLAB_NEW_PASSPHRASE.
    """
    from kmslab.cli.passphrases import passphrase

    with opening() as lab:
        new = None
        if lab.info().root == "passphrase":
            new = passphrase("New passphrase of the lab", "KMSLAB_NEW_PASSPHRASE", confirm=True)
        erased = lab.rekey(new_passphrase=new)
        found = lab.info()
    if as_json:
        write_json(found)
    else:
        narrate(f"the lab is under a new {'passphrase' if new else 'root key'}")
    if not erased:
        narrate(
            "warning: something that reads the database still holds what was sealed under the old "
            "one, which opens it: let it end, and rekey once more"
        )


@app.command("export", epilog=example("kmslab lab export lab.bundle"))
@opens_lab
def export_(
    opening: Opening,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The new file.")],
    as_json: Json = False,
) -> None:
    """Write all keys to one file, under a passphrase.

    Their material is in it. The passphrase is the file's own: it is asked for, or comes from
    KMSLAB_BUNDLE_PASSPHRASE.
    """
    from kmslab.cli.passphrases import passphrase

    with opening() as lab:
        text = passphrase("Passphrase of the bundle", "KMSLAB_BUNDLE_PASSPHRASE", confirm=True)
        count = lab.export_bundle(file, text)
    if as_json:
        write_json({"file": file, "keys": count})
    else:
        narrate(f"{counted(count, 'key is', 'keys are')} in {file}")


@app.command("import", epilog=example("kmslab lab import lab.bundle"))
@opens_lab
def import_(
    opening: Opening,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The bundle.")],
    as_json: Json = False,
) -> None:
    """Add the keys of a bundle to a lab.

    Keys that are there stay as they are, and deleted ones are not brought back.
    """
    from kmslab.cli.passphrases import passphrase

    with opening() as lab:
        text = passphrase("Passphrase of the bundle", "KMSLAB_BUNDLE_PASSPHRASE")
        found = lab.import_bundle(file, text)
    if as_json:
        write_json(found)
        return
    for key_id in found.imported:
        write_line(key_id)
    narrate(
        f"{counted(len(found.imported), 'key')} imported, "
        f"{counted(len(found.kept), 'was', 'were')} there already, "
        f"{counted(len(found.refused), 'deleted one')} left out"
    )


@app.command(epilog=example("kmslab lab seed keys.yaml"))
@opens_lab
def seed(
    opening: Opening,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The seed file, in YAML.")],
    as_json: Json = False,
) -> None:
    """Add keys with fixed ids and fixed material, for tests.

    Marks the lab unsafe for ever, since its material stands in a file. The file lists keys with
    provider, key_id, created_at and versions, each of version_id, made_at and material; docs/cli.md
    has an example.
    """
    with opening() as lab:
        added = lab.seed(file)
    if as_json:
        write_json({"added": added})
        return
    for key_id in added:
        write_line(key_id)
    narrate(f"{counted(len(added), 'key')} added; the lab is marked unsafe")


@app.command(
    epilog=example("kmslab lab fault ReEncrypt InternalError --count 3", "kmslab lab fault --list")
)
@opens_lab
def fault(
    opening: Opening,
    action: Annotated[
        str | None, typer.Argument(metavar="ACTION", help="A call by its own name.")
    ] = None,
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="The error code that it answers with.")
    ] = None,
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, help="How many calls meet it.")
    ] = 1,
    list_: Annotated[bool, typer.Option("--list", help="Show the faults to come.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Forget them.")] = False,
    as_json: Json = False,
) -> None:
    """Have the next calls of an action fail, on purpose.

    For testing code that meets such errors. ReEncrypt is Tencent Cloud's call, reEncrypt CTyun's.
    """
    from kmslab.errors import SettingError

    if sum((action is not None, list_, clear)) != 1 or (action is None) != (code is None):
        raise SettingError("give ACTION and CODE, or --list, or --clear")
    with opening() as lab:
        if clear:
            lab.faults.clear()
        elif action is not None and code is not None:
            lab.faults.add(action, code, count=count)
        faults = lab.faults.all()
    if as_json:
        write_json(faults)
    elif list_ and faults:
        write_table(
            ["ACTION", "CODE", "COUNT"], [[f["action"], f["code"], f["count"]] for f in faults]
        )
    else:
        narrate(f"{counted(sum(f['count'] for f in faults), 'call')} will fail")


def _value(text: str) -> Any:
    """A setting's value: JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _protection(info: LabInfo) -> str:
    return "a passphrase" if info.root == "passphrase" else f"the root key {info.root}"
