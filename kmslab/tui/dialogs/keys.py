"""What is done to keys: each says how many records it touches before it does anything."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from rich.text import Text
from textual.screen import Screen

from kmslab.campaign.retrying import code_of
from kmslab.errors import KmsError, KmslabError
from kmslab.keys import Names, create_key, kms_in, kms_of, set_rotation
from kmslab.model import CTYUN, TENCENT, Key, KeyOrigin, KeySpec, KeyState
from kmslab.providers.ctyun import rules as ctyun
from kmslab.providers.tencent import rules as tencent
from kmslab.tui.activity import command_line
from kmslab.tui.census import Tallies
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Field, Form
from kmslab.tui.host import Host
from kmslab.tui.texts import fitted, moment, records, told, visible

DELETION_DAYS: Final = (7, 30)
"""The fewest and the most days after which a key is deleted (both clouds)."""


_NAMED: Final = 40

_ALIASES: Final = {TENCENT: tencent.check_alias, CTYUN: ctyun.check_alias}

Counted = Callable[[], Tallies]
"""What gives the records that are counted by now; it is asked when something is said of them."""


def why_not(action: str, key: Key | None) -> str:
    """Why something cannot be done to a key; "" where it can."""
    if key is None:
        return "the cursor is on no key of this lab"
    if key.state is KeyState.DELETED:
        return "the key is deleted"
    match action:
        case "rotate":
            return _why_not_rotate(key)
        case "enable" if key.state not in (KeyState.ENABLED, KeyState.DISABLED):
            return f"the key is {key.state.value}"
        case "deletion" if key.provider == TENCENT and key.state is KeyState.ENABLED:
            return "a key of Tencent's is disabled first (e)"
        case "policy":
            pair = not key.spec.symmetric
            return "a pair does not rotate by itself" if pair else _why_not_rotate(key)
    return ""


def _why_not_rotate(key: Key) -> str:
    if key.origin is KeyOrigin.EXTERNAL:
        return "imported material does not rotate"
    if key.provider == TENCENT and not key.spec.symmetric:
        return "a pair of Tencent Cloud does not rotate"
    return "" if key.state is KeyState.ENABLED else f"the key is {key.state.value}"


async def rotate(app: Host, key: Key, called: str, counted: Counted) -> None:
    """A new version of a key, now."""
    lab = app.session.lab
    tallies = counted()
    tally = tallies.version(key.provider, key.key_id, key.primary_version_id)
    on_primary = tally.total if key.primary_version_id else 0
    if on_primary:
        then = "; stale afterwards, until re-encrypted."
    else:
        then = "." if tallies.missing else ", so none becomes stale."
    text = [
        f"{_name(app, key)} gets version {key.versions[-1].number + 1}, and encrypts with it from "
        "then on. Nothing that is stored changes.",
        f"{_here(app, tallies)}: {records(on_primary)} on the primary version now{then}",
        "This is the lab's own and works at any time; the cloud has rules on when.",
    ]
    words = ["key", "rotate", called]
    if await _agreed(app, "Rotate the key?", text, words, "Rotate"):
        made = await _called(app, key, "RotateKey", lambda: lab.rotate(key.key_id))
        app.done(f"{_name(app, made)} has version {made.versions[-1].number}", *words)


async def enable(app: Host, key: Key, called: str, counted: Counted) -> None:
    """Disable an enabled key, or enable a disabled one."""
    kms, tallies = kms_of(app.session.lab, key), counted()
    total = tallies.key(key.provider, key.key_id).total
    if key.state is KeyState.ENABLED:
        text = [
            f"{_name(app, key)} neither encrypts nor decrypts until it is enabled again.",
            f"{_here(app, tallies)}: {records(total)} on it cannot be read then, nor re-encrypted.",
        ]
        words = ["key", "disable", called]
        if await _agreed(app, "Disable the key?", text, words, "Disable"):
            await _called(app, key, "DisableKey", lambda: kms.disable_key(key.key_id))
            app.done(f"{_name(app, key)} is disabled", *words)
        return
    text = [
        f"{_name(app, key)} encrypts and decrypts again.",
        f"{_here(app, tallies)}: {records(total)} on it can be read and re-encrypted again.",
    ]
    words = ["key", "enable", called]
    if await _agreed(app, "Enable the key?", text, words, "Enable"):
        await _called(app, key, "EnableKey", lambda: kms.enable_key(key.key_id))
        app.done(f"{_name(app, key)} is enabled", *words)


async def deletion(app: Host, key: Key, called: str, counted: Counted) -> None:
    """Schedule the deletion of a key, or cancel it."""
    kms = kms_of(app.session.lab, key)
    if key.state is KeyState.PENDING_DELETION:
        tallies = counted()
        total = tallies.key(key.provider, key.key_id).total
        then = "disabled" if key.provider == TENCENT else "enabled"
        text = [
            f"{_name(app, key)} would be deleted on {moment(key.deletion_at)}. Cancelled, it is "
            f"{then}.",
            f"{_here(app, tallies)}: {records(total)} on it, which would be lost.",
        ]
        text.insert(0, "This cancels the deletion that is scheduled.")
        words = ["key", "cancel-deletion", called]
        if await _agreed(app, "Keep the key?", text, words, "Keep the key"):
            made = await _called(
                app, key, "CancelKeyDeletion", lambda: kms.cancel_key_deletion(key.key_id)
            )
            app.done(f"{_name(app, key)} is {made.state.value}", *words)
        return
    form = Form(
        f"Delete {_name(app, key)}: when?",
        [Field("days", "in days (7 to 30)", "30")],
        lambda values: _days_fault(values["days"], *DELETION_DAYS),
        answer="Go on",
    )
    values = await app.push_screen_wait(form)
    if values is None:
        return
    days = int(values["days"])
    at = deletion_moment(key.provider, app.session.ground.clock.now(), days)
    tallies = counted()
    total = tallies.key(key.provider, key.key_id).total
    text = [
        f"{_name(app, key)} is deleted with its material on {moment(at)}, for good. Until then it "
        "neither encrypts nor decrypts, and the deletion can be cancelled.",
        f"{_here(app, tallies)}: {records(total)} on it. What is not re-encrypted to another key "
        "by then is lost."
        if total or tallies.missing
        else f"{_here(app, tallies)}: no record on it. Other sources and backups are not looked at "
        "here; kmslab retire looks at every registered one.",
    ]
    words = ["key", "schedule-deletion", called, "--days", str(days)]
    answer = "Schedule the deletion"
    # Where nobody knows how many records are lost with it, one key is no answer either.
    name = (key.alias or key.key_id) if tallies.missing else ""
    if await _agreed(app, "Schedule the deletion?", text, words, answer, touched=total, name=name):
        made = await _called(
            app, key, "ScheduleKeyDeletion", lambda: kms.schedule_key_deletion(key.key_id, days)
        )
        app.done(f"{_name(app, key)} is to be deleted on {moment(made.deletion_at)}", *words)


def deletion_moment(provider: str, now: datetime, days: int) -> datetime:
    """When a key is deleted: Tencent Cloud does so at the end of that day in Beijing.

    >>> from datetime import UTC
    >>> now = datetime(2026, 11, 1, 10, 7, tzinfo=UTC)
    >>> print(deletion_moment("tencent", now, 7), deletion_moment("ctyun", now, 7), sep="\\n")
    2026-11-08 15:59:59+00:00
    2026-11-08 10:07:00+00:00
    """
    at = now + timedelta(days=days)
    if provider != TENCENT:
        return at
    end = tencent.end_of_beijing_day(round(at.timestamp() * 1_000_000))
    return datetime.fromtimestamp(end / 1_000_000, UTC)


async def policy(app: Host, key: Key, called: str, counted: Counted) -> None:
    """Have a key rotated automatically, every so many days, or no longer."""
    kms = kms_of(app.session.lab, key)
    now = "" if key.rotation_days is None else str(key.rotation_days)
    form = Form(
        f"Rotate {_name(app, key)} automatically",
        [Field("days", "days (empty: off)", now or "365")],
        lambda values: "" if not values["days"] else _days_fault(values["days"], 1, 10_000),
        answer="Go on",
    )
    values = await app.push_screen_wait(form)
    if values is None:
        return
    days = int(values["days"]) if values["days"] else None
    tallies = counted()
    total = tallies.version(key.provider, key.key_id, key.primary_version_id).total
    if days is None:
        text = [f"{_name(app, key)} is not rotated by itself any more.", "No record is touched."]
        words = ["key", "rotation", called, "--off"]
    else:
        at = app.session.ground.clock.now() + timedelta(days=days)
        text = [
            f"{_name(app, key)} gets a new version every {days} days, the first on {moment(at)}.",
            f"{_here(app, tallies)}: {records(total)} on the primary version now; each rotation "
            "makes those on it stale.",
        ]
        words = ["key", "rotation", called, "--days", str(days)]
    if await _agreed(app, "Change the rotation?", text, words, "Change"):
        action = "DisableKeyRotation" if days is None else "EnableKeyRotation"
        await _called(app, key, action, lambda: set_rotation(kms, key.key_id, days))
        app.done(f"{_name(app, key)}: rotation {'off' if days is None else words[-1]}", *words)


async def alias(app: Host, key: Key, called: str, counted: Counted) -> None:
    """Give a key another alias; what is refused can be mended in the form."""
    kms = kms_of(app.session.lab, key)
    keys = await app.away(app.session.keyring.keys)
    new, wrong = key.alias, ""
    while True:
        form = Form(
            f"Another alias for {_name(app, key)}",
            [Field("alias", "alias", new)],
            lambda values: _alias_fault(values["alias"], key.provider, keys, but=key.key_id),
            answer="Go on",
            wrong=wrong,
        )
        values = await app.push_screen_wait(form)
        if values is None or values["alias"] == key.alias:
            return
        new, tallies = values["alias"], counted()
        total = tallies.key(key.provider, key.key_id).total
        text = [
            f"{_name(app, key)} is called {visible(new)} from then on. Calls that name the key by "
            "its old alias fail.",
            f"{_here(app, tallies)}: {records(total)} on it; none is touched, since blobs name "
            "the key's id.",
        ]
        words = ["key", "alias", called, new]
        if not await _agreed(app, "Change the alias?", text, words, "Change"):
            return
        try:
            await _called(app, key, "UpdateAlias", partial(kms.update_alias, key.key_id, new))
        except KmsError as error:
            app.refused(error)
            wrong = told(error)
        else:
            app.done(f"key {key.key_id} is called {new}", *words)
            return


async def create(app: Host, provider: str) -> None:
    """Make a key; what is refused can be mended in the form."""
    keys = await app.away(app.session.keyring.keys)
    values: Mapping[str, str] | None = {"provider": provider, "spec": KeySpec.AES_256.value}
    wrong = ""
    while values is not None:
        form = Form(
            "A new key",
            [
                Field("provider", "provider", values["provider"], (TENCENT, CTYUN)),
                Field("alias", "alias", values.get("alias", "")),
                Field("spec", "material", values["spec"], tuple(s.value for s in KeySpec)),
                Field("description", "what it is for", values.get("description", "")),
                Field("days", "days to rotation", values.get("days", "")),
            ],
            lambda typed: _new_key_fault(typed, keys),
            answer="Go on",
            wrong=wrong,
        )
        values = await app.push_screen_wait(form)
        if values is None:
            return
        try:
            await _create(app, values)
        except KmsError as error:
            app.refused(error)
            wrong = told(error)
        else:
            return


async def _create(app: Host, values: Mapping[str, str]) -> None:
    """Ask, and make a key of these values."""
    days = int(values["days"]) if values["days"] else None
    words = ["key", "create", "--provider", values["provider"], "--spec", values["spec"]]
    for option, name in (("--alias", "alias"), ("--description", "description")):
        if values[name]:
            words += [option, values[name]]
    rotation = [] if days is None else ["--rotation-days", str(days)]
    rotated = "not rotated by itself" if days is None else f"rotated every {days} days"
    text = [
        f"A key of {values['provider']}, {values['spec']}, {rotated}.",
        "It touches no record: nothing is encrypted under it yet.",
    ]
    if not await _agreed(app, "Create the key?", text, [*words, *rotation], "Create"):
        return
    kms, half = kms_in(app.session.lab, values["provider"]), list[str]()
    make = partial(
        create_key,
        kms,
        values["alias"],
        description=values["description"],
        spec=KeySpec(values["spec"]),
        rotation_days=days,
        tell=half.append,
    )
    try:
        made = await _refusing(app, values["provider"], "CreateKey", make)
    except KmslabError as error:
        if not half:
            raise
        app.keys_changed()
        app.done(half[0], *words)
        error.add_note(f"All the same: {half[0]}.")
        app.refused(error)
    else:
        app.done(f"{_name(app, made)} is created", *words, *rotation)


def _new_key_fault(values: Mapping[str, str], keys: Sequence[Key]) -> str:
    provider, name = values["provider"], values["alias"]
    if provider == TENCENT and not name:
        return "a key of Tencent's needs an alias"
    if name and (fault := _alias_fault(name, provider, keys)):
        return fault
    if not values["days"]:
        return ""
    if provider == TENCENT and not KeySpec(values["spec"]).symmetric:
        return "a pair of Tencent Cloud does not rotate: no days to rotation"
    return _days_fault(values["days"], 1, 10_000)


def _alias_fault(name: str, provider: str, keys: Sequence[Key], but: str = "") -> str:
    """Why a key cannot be called so, as far as that is seen before it is asked for."""
    if not name:
        return "an alias has at least one letter"
    try:
        _ALIASES[provider](name)
    except KmsError as error:
        return str(error)
    for key in keys:
        taken = key.state is not KeyState.DELETED and key.key_id != but
        if taken and (key.provider, key.alias) == (provider, name):
            return f"another key of {provider} is called so"
    return ""


def _days_fault(text: str, least: int, most: int) -> str:
    if text.isascii() and text.isdigit() and least <= int(text) <= most:
        return ""
    return f"a number of days from {least} to {most:,}"


Deed = Callable[[Host, Key, str, Counted], Coroutine[Any, Any, None]]
"""Asks, and does something to a key; the text is what the key is called on a command line."""

DEEDS: Final[Mapping[str, Deed]] = {
    "rotate": rotate,
    "enable": enable,
    "deletion": deletion,
    "policy": policy,
    "alias": alias,
}
"""What can be done to a key that is there."""

_CALLED: Final = {"enable": "on/off", "policy": "rotation policy"}


def begin(app: Host, name: str, key: Key | None, counted: Counted, *, of: Screen[Any]) -> None:
    """Begin to do something to a key: it says what, asks, and does it."""
    if key is not None:
        app.begin(_CALLED.get(name, name), lambda: _deed(app, name, key, counted), of=of)


async def _deed(app: Host, name: str, key: Key, counted: Counted) -> None:
    """Do it to the key as it is now: what was shown of it may be some time ago."""
    keys = await app.away(app.session.keyring.keys)
    now = next((each for each in keys if each.key_id == key.key_id), None)
    if now is None or (why := why_not(name, now)):
        app.tell("the key is gone" if now is None else why, severity="warning")
    else:
        called = Names.among(keys)(key.key_id) or key.key_id
        await DEEDS[name](app, now, called, counted)


async def _agreed(
    app: Host,
    title: str,
    sentences: list[str],
    words: list[str],
    answer: str,
    *,
    touched: int = 0,
    name: str = "",
) -> bool:
    body = Text("\n\n".join(visible(sentence) for sentence in sentences))
    body.append(f"\n\nThe same: {visible(command_line(words, app.session.options))}")
    agreed = await app.push_screen_wait(
        Confirm(title, body, answer=answer, records=touched, name=name)
    )
    return agreed and not app.read_only


async def _called(app: Host, key: Key, action: str, call: Callable[[], Key]) -> Key:
    return await _refusing(app, key.provider, action, call)


async def _refusing(app: Host, provider: str, action: str, call: Callable[[], Key]) -> Key:
    """Make a call; what the provider refuses has its own code for it."""
    try:
        made = await app.change_keys(call)
    except KmsError as error:
        error.code = error.code or code_of(provider, error, action)
        raise
    app.keys_changed()
    return made


def _here(app: Host, tallies: Tallies) -> str:
    """Where the records were counted: in the one source that is looked at, as far as it was."""
    missing = f" ({tallies.missing}: there may be more)" if tallies.missing else ""
    return f"In {app.session.source or 'no source'}{missing}"


def _name(app: Host, key: Key) -> str:
    """A key as sentences call it: a long alias by its beginning; the command has all of it."""
    return f"{key.provider} key {fitted(key.alias or key.key_id, _NAMED).rstrip()}"
