"""kmslab credential: who may call the lab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_fields, write_json, write_table

if TYPE_CHECKING:
    from kmslab.keys import Names
    from kmslab.keystore.credentials import Credential
    from kmslab.lab import Lab

app = typer.Typer(
    name="credential",
    help="Create, list and revoke credentials.",
    epilog=example("kmslab credential list"),
    no_args_is_help=True,
    **settings(),
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The credential's name.")]


@app.command(
    epilog=example("kmslab credential create ci --right ReEncrypt:orders --right Decrypt --json")
)
@opens_lab
def create(
    opening: Opening,
    name: Name,
    right: Annotated[
        list[str] | None,
        typer.Option(
            "--right",
            metavar="ACTION[:KEY]",
            help="What it may call, on one key or all; * is every call. Again for more; without any"
            " it may do everything.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a credential. Its secret key is shown this once, and kept sealed."""
    with opening() as lab:
        rights = None if right is None else [_with_key_id(lab, each) for each in right]
        made = lab.credentials.create(name, rights=rights)
    secret_key = made.secret_key.expose().decode("ascii")
    if as_json:
        write_json({**_as_dict(made.credential), "secret_key": secret_key})
        return
    narrate("the secret key is shown this once")
    write_fields([("secret_id", made.credential.secret_id), ("secret_key", secret_key)])


@app.command("list", epilog=example("kmslab credential list"))
@opens_lab
def list_(opening: Opening, as_json: Json = False) -> None:
    """List the credentials, oldest first, revoked ones too."""
    from kmslab.keys import Names

    with opening() as lab:
        found = lab.credentials.list()
        names = Names.of(lab)
    if as_json:
        write_json([_as_dict(credential) for credential in found])
        return
    if not found:
        narrate("no credentials; `kmslab credential create` makes one")
        return
    write_table(
        ["NAME", "SECRET ID", "RIGHTS", "CREATED", "REVOKED"],
        [[c.name, c.secret_id, _rights(c, names), c.created_at, c.revoked_at] for c in found],
    )


@app.command(epilog=example("kmslab credential revoke ci"))
@opens_lab
def revoke(
    opening: Opening,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The credential's name or secret id.")
    ],
    as_json: Json = False,
) -> None:
    """End a credential, by its name or secret id."""
    with opening() as lab:
        credential = lab.credentials.revoke(name)
    if as_json:
        write_json(_as_dict(credential))
    else:
        narrate(f"{credential.name} ({credential.secret_id}) is revoked")


def _with_key_id(lab: Lab, right: str) -> str:
    action, colon, key = right.partition(":")
    return f"{action}:{lab.key(key).key_id}" if colon else action


def _rights(credential: Credential, names: Names) -> str:
    if credential.rights is None:
        return "everything"
    pairs = (right.partition(":") for right in credential.rights)
    return ", ".join(f"{action}{colon}{names(key) or ''}" for action, colon, key in pairs)


def _as_dict(credential: Credential) -> dict[str, Any]:
    names = ("name", "secret_id", "rights", "created_at", "revoked_at")
    return {name: getattr(credential, name) for name in names}
