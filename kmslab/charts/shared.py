"""What all charts share: their style, their axes, and letters that can be drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

try:
    import matplotlib.pyplot as plt
    from matplotlib import font_manager
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter, MaxNLocator
except ImportError as missing:
    raise ImportError("charts need matplotlib: pip install 'kmslab[notebooks]'") from missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FONTS: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Noto Serif CJK SC",
    "Noto Serif CJK JP",
)
"""Fonts with Chinese letters, the first of which that is installed is used beside DejaVu Sans."""

CURRENT: Final = "#c9d6df"
STALE: Final = "#2f3e4e"
UNKNOWN: Final = "#ffffff"

_GRID: Final = "#e4e7ea"
_MOST_INSIDE: Final = 6
"""So many lines of a legend fit into the axes."""


@contextmanager
def drawing(ax: Axes | None, title: str, rows: int = 0) -> Iterator[Axes]:
    """Axes in the style of this module, as high as so many rows need; at the end every text in
    them has letters that can be drawn."""
    # No rc_context: in a notebook it would take back that figures are shown at all.
    if ax is None:
        height = min(12.0, max(3.2, 1.2 + 0.24 * rows))
        _, ax = plt.subplots(figsize=(7.2, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(visible=True, color=_GRID)
    ax.set_title(title, loc="left", weight="bold", size="medium" if wide(ax) else "x-small")
    yield ax
    size = "small" if wide(ax) else "x-small"
    ax.tick_params(labelsize=size)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_fontsize(size)
    if rows:
        ax.tick_params(axis="y", labelsize=min(8.3, _row_points(ax, rows)))
    _letters(ax)


def wide(axes: Axes) -> bool:
    """Whether there is room for letters of the usual size."""
    return _inches(axes)[0] > 5


def _row_points(axes: Axes, rows: int) -> float:
    """The size of letters, in points, of which so many rows fit beside the axes."""
    return max(3.0, 0.85 * 72 * 0.75 * _inches(axes)[1] / rows)


def _inches(axes: Axes) -> tuple[float, float]:
    """Width and height of the place that the axes have in their figure, before it is laid out."""
    spec = axes.get_subplotspec()
    rows, columns = spec.get_gridspec().get_geometry() if spec is not None else (1, 1)
    figure: Any = axes.figure
    width, height = figure.get_size_inches()
    return float(width) / columns, float(height) / rows


def room(axes: Axes, share: float, letters: int) -> bool:
    """Whether a text of so many small letters fits into a share of the width of the axes."""
    return 0.8 * _inches(axes)[0] * share > letters * 0.075


def legend(axes: Axes, *, columns: int = 1, least: int = 2) -> None:
    """Say what is what, where there are at least so many things; beside the axes where they are
    too many to stand in them, if the figure makes room for it."""
    figure: Any = axes.figure
    count = len(axes.get_legend_handles_labels()[1])
    if count < least:
        return
    size = "small" if wide(axes) else "xx-small"
    if count > _MOST_INSIDE and figure.get_layout_engine() is not None:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="x-small")
    else:
        axes.legend(loc="best", frameon=False, fontsize=size, ncols=columns)


def nothing(axes: Axes, text: str) -> None:
    """Say in the middle of the axes why nothing is drawn in them."""
    axes.annotate(
        text, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", fontsize="small"
    )
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])


def remark(axes: Axes, text: str) -> None:
    """A small remark in the corner."""
    axes.annotate(text, (1, 1), xycoords="axes fraction", ha="right", va="top", fontsize="x-small")


def whole_numbers(axis: Any) -> None:
    """An axis that counts."""
    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(short_numbers())


def short_numbers() -> FuncFormatter:
    """Numbers on an axis, as `short` has them."""
    return FuncFormatter(lambda value, _: short(value))


def short(value: float) -> str:
    """A number as it fits on an axis.

    >>> short(950), short(12_500), short(2_000_000), short(0.5)
    ('950', '12.5k', '2M', '0.5')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def dates(axes: Axes) -> None:
    """A horizontal axis of times."""
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis_date()
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


@lru_cache(1)
def _cjk_font() -> tuple[str, FT2Font] | None:
    """The first of FONTS that is installed; a search of all fonts, so it is done once."""
    installed = {entry.name: entry.fname for entry in font_manager.fontManager.ttflist}
    for name in FONTS:
        if name in installed:
            return name, font_manager.get_font(installed[name])
    return None


@lru_cache(1)
def _usual_font() -> FT2Font:
    return font_manager.get_font(font_manager.findfont("DejaVu Sans"))


def _escaped(text: str, fonts: Sequence[FT2Font]) -> str:
    """The text with escapes for letters that none of the fonts has."""
    return "".join(c if _drawable(c, fonts) else ascii(c)[1:-1] for c in text)


def _drawable(letter: str, fonts: Sequence[FT2Font]) -> bool:
    return letter.isspace() or any(font.get_char_index(ord(letter)) for font in fonts)


def _letters(axes: Axes) -> None:
    """Have every text in the axes use a font that has its letters, or escapes in their place."""
    texts: list[Any] = axes.findobj(Text)
    for text in texts:
        text.set_parse_math(False)  # $ is a letter of somebody's name
    texts = [text for text in texts if not text.get_text().isascii()]
    if not texts:
        return
    found = _cjk_font()
    fonts = [_usual_font(), *([found[1]] if found else [])]
    missing = False
    for text in texts:
        words = text.get_text()
        shown = _escaped(words, fonts)
        missing = missing or shown != words
        if found:
            text.set_fontfamily(["DejaVu Sans", found[0]])
        if shown != words:
            text.set_text(shown)
    if missing:
        _fix_ticks(axes, fonts)
        warnings.warn(
            "no font has all letters of this chart: install one of "
            f"{', '.join(FONTS[:4])} (Debian: fonts-noto-cjk)",
            UserWarning,
            stacklevel=4,
        )


def _fix_ticks(axes: Axes, fonts: Sequence[FT2Font]) -> None:
    """Tick labels are made anew when a chart is drawn: have them made from texts that can be."""
    for axis in (axes.xaxis, axes.yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if any(not label.isascii() or "\\u" in label for label in labels):
            axis.set_ticks(axis.get_ticklocs(), [_escaped(label, fonts) for label in labels])
