"""The decrypt preview: one plaintext, masked until it is asked for, and gone soon after."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar, Final

from rich.cells import cached_cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Static

from kmslab.campaign.retrying import code_of
from kmslab.errors import KmsError
from kmslab.inspection import inspect
from kmslab.keys import kms_in
from kmslab.model import CTYUN, BlobFormat, Key, Record
from kmslab.secret import Plaintext
from kmslab.tui.chrome import KeyLine
from kmslab.tui.detail import hex_lines
from kmslab.tui.dialogs import confirm
from kmslab.tui.finishing import leave
from kmslab.tui.host import Host
from kmslab.tui.modal import Modal
from kmslab.tui.texts import visible

SECONDS: Final = 30.0
"""How long a plaintext is kept, masked or not."""

_MOST: Final = 512
_MASK: Final = "•" * 16


class Preview(Modal[None]):
    """A plaintext: space reveals and masks it; it is let go of after SECONDS and on leaving.

    A space that was typed ahead reveals nothing: as `Confirm`, it hears none for QUIET seconds.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "reveal", "Reveal or mask"),
        Binding("escape,q,enter", "close", "Close", key_display="Esc"),
    ]
    DEFAULT_CSS = """
    Preview { align: center middle; }
    Preview > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 90%;
        border: round $warning; padding: 0 1; background: $surface;
    }
    Preview .title { text-style: bold; text-wrap: nowrap; text-overflow: ellipsis; }
    Preview #plaintext { margin: 1 0; max-height: 40vh; overflow-y: auto; }
    """

    def __init__(self, record_id: str, plaintext: Plaintext, *, seconds: float = SECONDS) -> None:
        super().__init__()
        self._record_id = record_id
        self._plaintext: Plaintext | None = plaintext
        self._bytes = len(plaintext)
        self._seconds = seconds
        self._shown = False
        self._text = Static(_MASK, id="plaintext", markup=False)
        self._timer: Timer | None = None
        self._quiet_since: float | None = None

    def compose(self) -> ComposeResult:
        """Which record, the mask, what can be done."""
        with Vertical():
            title = f"Decrypted, {self._bytes:,} bytes: {visible(self._record_id)}"
            yield Static(title, classes="title", markup=False)
            yield self._text
            about = f"Space reveals it. It is gone after {self._seconds:.0f} s. This was audited."
            yield Static(about, id="about", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """It is not kept for long."""
        self._timer = self.set_timer(self._seconds, self._forget)
        self.call_after_refresh(self._hush)

    def on_unmount(self) -> None:
        """It is not kept when nobody looks."""
        self._forget()

    def _hush(self) -> None:
        self._quiet_since = monotonic()

    @property
    def hears(self) -> bool:
        """Whether a key is meant for it, and not for what was there before."""
        since = self._quiet_since
        return since is not None and monotonic() - since >= confirm.QUIET

    def action_reveal(self) -> None:
        """Show it, or mask it again."""
        if not self.hears:
            self._hush()
        elif self._plaintext is not None:
            self._shown = not self._shown
            text = plain_text(self._plaintext) if self._shown else Text(_MASK)
            self._text.update(text)

    def action_close(self) -> None:
        """Let go of it."""
        self._forget()
        leave(self, None)

    def _forget(self) -> None:
        self._plaintext = None
        self._shown = False
        self._text.update(Text("(cleared)"))
        cached_cell_len.cache_clear()  # Rich remembers the texts that it has measured


def plain_text(data: Plaintext) -> Text:
    """A plaintext as text where it is some, and as bytes elsewhere; the beginning of a long one."""
    shown = bytes(data[:_MOST])
    try:
        text = shown.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and all(letter.isprintable() or letter in "\r\n\t" for letter in text):
        found = Text("\n".join(visible(line) for line in text.splitlines()))
    else:
        found = Text("\n".join(hex_lines(shown, 70)))
    if len(data) > _MOST:
        found.append(f"\n({len(data) - _MOST:,} more bytes)")
    return found


async def decrypt(app: Host, record: Record, key: Key | None) -> None:
    """Decrypt one record, which the lab audits, and show it masked."""
    await app.push_screen_wait(await _opened(app, record, key))


async def _opened(app: Host, record: Record, key: Key | None) -> Preview:
    """The preview of a record. Nothing else holds the plaintext once this has returned."""
    provider = record.provider
    kms = app.session.ground.providers.kms(provider)
    if key is not None and not app.session.remote:
        kms = kms_in(app.session.lab, provider, key.region)
    opened = await app.away(lambda: kms.decrypt_records([record]))
    error, plaintext = opened.error[0], opened.plaintext[0]
    if plaintext is None:
        refused = error
        assert refused is not None  # noqa: S101  # for the type checker
        raise await app.away(lambda: _explained(app, record, refused))
    return Preview(record.record_id, plaintext)


def _explained(app: Host, record: Record, error: KmsError) -> KmsError:
    """The refusal with its code; what more the lab's owner may know is told beside it. A thread
    asks the lab, which may have to read what has changed."""
    action = "Decrypt"
    if record.provider == CTYUN and inspect(record.ciphertext_blob).format is BlobFormat.PUBLIC_KEY:
        action = "asymmetricDecrypt"
    error.code = error.code or code_of(record.provider, error, action)
    lab_blob = inspect(record.ciphertext_blob).format is BlobFormat.LAB
    if lab_blob and not app.session.remote:
        error.add_note(app.session.lab.explain(record.ciphertext_blob, record.context))
    return error
