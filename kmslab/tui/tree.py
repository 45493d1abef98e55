"""The tree of providers, keys and versions, each with its share of records on old versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.cells import set_cell_size
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from kmslab.campaign.selection import Selection
from kmslab.keys import Names
from kmslab.model import Key, KeyState, KeyVersion
from kmslab.tui.census import Tallies, Tally
from kmslab.tui.filtering import At, Term
from kmslab.tui.judging import NO_ANSWER
from kmslab.tui.texts import bar, fitted, key_mark, percent, short, version_mark

PROVIDER_NAMES: Final = {"tencent": "Tencent", "ctyun": "CTyun"}
_STATES: Final = {
    None: "not here",
    KeyState.DISABLED: "disabled",
    KeyState.ARCHIVED: "archived",
    KeyState.PENDING_IMPORT: "no key yet",
    KeyState.PENDING_DELETION: "deleting",
    KeyState.DELETED: "deleted",
}
_BAR: Final = 4
_RIGHT: Final = 16  # the count, the bar, the share


@dataclass(frozen=True, slots=True)
class Place:
    """What a node stands for; all is None at the top. A key that blobs name need not be there."""

    provider: str | None = None
    key_id: str | None = None
    version_id: str | None = None
    key: Key | None = None
    version: KeyVersion | None = None

    @property
    def opens(self) -> bool:
        """Whether there may be something under it."""
        return self.version is None and (
            self.key is not None or (self.provider is not None and self.key_id is None)
        )

    def terms(self) -> tuple[Term, ...]:
        """What a filter asks of the records here."""
        if self.provider is None:
            return ()
        return (Term(At(self.provider, self.key_id, self.version_id)),)

    def selection(self) -> Selection:
        """The records here, as a campaign selects them."""
        if self.key_id is None:
            return Selection(provider=self.provider)
        return Selection(key_id=self.key_id, key_version_id=self.version_id)

    def told(self, names: Names) -> str:
        """Which records those are, in words."""
        if self.provider is None:
            return "all records"
        if self.key_id == NO_KEY:
            return "on no known key"
        if self.key_id is None:
            return f"all of {PROVIDER_NAMES.get(self.provider, self.provider)}"
        what = f"on {names(self.key_id) or self.key_id}"
        return what if self.version is None else f"{what} version {self.version.number}"


Everything: Final = Place()

NO_KEY: Final = ""
"""The key id in the place of records whose blobs name no key."""


class KeyTree(Tree[Place]):
    """Providers, keys, versions. Enter on one shows its records."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g,home", "first", show=False),
        Binding("G,end", "last", show=False),
        Binding("right,l", "open", show=False),
        Binding("left,h", "shut", show=False),
    ]
    DEFAULT_CSS = """
    KeyTree { scrollbar-size-horizontal: 0; scrollbar-size-vertical: 1; }
    """
    guide_depth = 2
    show_root = False

    @dataclass
    class Shown(Message):
        """The records of a place are asked for."""

        place: Place

    def __init__(self) -> None:
        super().__init__("everything", data=Everything, id="tree")
        self.tallies = Tallies()
        self._by_name: dict[tuple[str | None, str | None, str | None], TreeNode[Place]] = {}

    @property
    def place(self) -> Place:
        """Where the cursor is."""
        node = self.cursor_node
        return Everything if node is None or node.data is None else node.data

    def show(self, keys: Sequence[Key], names: Names, tallies: Tallies) -> None:
        """Show these keys and counts; what is open stays open, and the cursor where it is."""
        self.tallies = tallies
        places = _places(keys, tallies)
        wanted = {_name(place) for place in places}
        if wanted != set(self._by_name):
            self._build_anew(places, names)
            return
        for place in places:
            node, label = self._by_name[_name(place)], _label(place, names)
            node.data = place
            if node.label != label:
                node.set_label(label)
        self._invalidate()
        self.refresh()

    def _build_anew(self, places: Sequence[Place], names: Names) -> None:
        opened = {name for name, node in self._by_name.items() if node.is_expanded}
        here = _name(self.place)
        first = not self._by_name
        self.clear()
        self._by_name = {}
        for place in places:
            name = _name(place)
            above = self._above(name)
            shut = place.key_id is not None and name not in opened
            self._by_name[name] = above.add(
                _label(place, names),
                place,
                expand=not shut,
                allow_expand=place.opens,
            )
        if first or here not in self._by_name:
            self.cursor_line = 0
        else:
            self.call_after_refresh(self.move_cursor, self._by_name[here])

    def _above(self, name: tuple[str | None, str | None, str | None]) -> TreeNode[Place]:
        provider, key_id, version_id = name
        if version_id is not None:
            return self._by_name[provider, key_id, None]
        if key_id is not None:
            return self._by_name[provider, None, None]
        return self.root

    def render_label(self, node: TreeNode[Place], base_style: Style, style: Style) -> Text:
        """The name at the left; count, bar and share at the right."""
        place = node.data or Everything
        sign = ("▾ " if node.is_expanded else "▸ ") if node.allow_expand else "  "
        depth = sum(part is not None for part in (place.provider, place.key_id, place.version_id))
        width = (
            self.scrollable_content_region.width
            - self.guide_depth * max(depth - 1, 0)
            - len(sign)
            - _RIGHT
            - 1
        )
        tally = self._tally(place)
        text = Text(sign, base_style, no_wrap=True)
        text.append(
            fitted(node.label.plain if isinstance(node.label, Text) else str(node.label), width),
            style,
        )
        text.append(set_cell_size(_figures(place, tally), _RIGHT + 1), style)
        return text

    def _tally(self, place: Place) -> Tally:
        tallies = self.tallies
        if place.provider is None:
            return tallies.every
        if place.key_id is None:
            return tallies.providers.get(place.provider) or Tally()
        if place.version_id is None:
            return tallies.key(place.provider, place.key_id or None)
        return tallies.version(place.provider, place.key_id, place.version_id)

    def action_first(self) -> None:
        """To the first line."""
        self.cursor_line = 0

    def action_last(self) -> None:
        """To the last line."""
        self.cursor_line = self.last_line

    def action_open(self) -> None:
        """Show what is under the node."""
        if self.cursor_node is not None and self.cursor_node.allow_expand:
            self.cursor_node.expand()

    def action_shut(self) -> None:
        """Hide what is under the node, or go to the one above."""
        node = self.cursor_node
        if node is None:
            return
        if node.allow_expand and node.is_expanded:
            node.collapse()
        else:
            self.action_cursor_parent()

    def action_select_cursor(self) -> None:
        """Show the records of this place."""
        if self.cursor_node is not None:
            self.post_message(self.Shown(self.place))

    def on_tree_node_selected(self, event: Tree.NodeSelected[Place]) -> None:
        """A click does as Enter does."""
        event.stop()
        self.post_message(self.Shown(event.node.data or Everything))


def _figures(place: Place, tally: Tally) -> str:
    """The count; the share on old versions, or why it is not known, or what the key's state is."""
    count = _count(tally.total) if tally.total else "-"
    if place.key_id and place.version_id is None:
        state = None if place.key is None else place.key.state
        if state is not KeyState.ENABLED:
            return f" {count:>6} {_STATES[state]}"
    if not tally.total or place.key_id == NO_KEY:
        return f" {count:>6}"
    if tally.unanswered:
        return f" {count:>6} {NO_ANSWER}"
    return f" {count:>6} {bar(tally.share, _BAR)} {percent(tally.share):>4}"


def _count(number: int) -> str:
    """A number in at most six cells.

    >>> _count(3293), _count(1_000_000), _count(123_456_789)
    ('3,293', '1,000k', '123M')
    """
    if number < 100_000:
        return f"{number:,}"
    if number < 10_000_000:
        return f"{number // 1_000:,}k"
    return f"{number // 1_000_000:,}M"


def _name(place: Place) -> tuple[str | None, str | None, str | None]:
    return place.provider, place.key_id, place.version_id


def _places(keys: Sequence[Key], tallies: Tallies) -> list[Place]:
    """Everything, providers, their keys by name, their versions; then keys that are not there, and
    what is on none, so that the lines below a provider sum to its own."""
    found = [Everything]
    for provider in (*PROVIDER_NAMES, *sorted(set(tallies.providers) - set(PROVIDER_NAMES))):
        found.append(Place(provider))
        there = [
            key
            for key in keys
            if key.provider == provider
            and (key.state is not KeyState.DELETED or tallies.key(provider, key.key_id).total)
        ]
        for key in sorted(there, key=lambda key: (key.alias == "", key.alias, key.key_id)):
            found.append(Place(provider, key.key_id, key=key))
            found += [
                Place(provider, key.key_id, version.version_id, key, version)
                for version in key.versions
            ]
        known = {key.key_id for key in there}
        missing = {
            key_id
            for (of, key_id) in tallies.keys
            if of == provider and key_id is not None and key_id not in known
        }
        found += [Place(provider, key_id) for key_id in sorted(missing)]
        if tallies.key(provider, None).total:
            found.append(Place(provider, NO_KEY))
    return found


def _label(place: Place, names: Names) -> Text:
    if place.provider is None:
        return Text("all records")
    if place.key_id is None:
        return Text(PROVIDER_NAMES.get(place.provider, place.provider))
    if place.key_id == NO_KEY:
        return Text("? key not known")
    if place.key is None:
        return Text(f"? {short(place.key_id)}")
    if place.version is None:
        name = names(place.key_id) or place.key_id
        name = short(name) if name == place.key_id else name
        return Text(f"{key_mark(place.key)} {name}")
    version = place.version
    gone = "" if version.has_material else " no material"
    primary = " primary" if version.version_id == place.key.primary_version_id else ""
    return Text(f"{version_mark(place.key, version)} v{version.number}{primary}{gone}")
