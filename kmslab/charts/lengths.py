"""How long blobs are, as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pandas as pd

from kmslab.charts.shared import drawing, legend, short_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES: Final = (("-", "#16222e"), ("--", "#4d6478"), (":", "#8098aa"))


def blob_lengths(lengths: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """The characters of a blob for plaintexts of so many bytes: the index of a table that has a
    column for each provider.

    >>> table = pd.DataFrame({"tencent": [166, 190], "ctyun": [184, 204]}, index=[0, 16])
    >>> blob_lengths(table).get_ylabel()
    'blob (characters)'
    """
    with drawing(ax, "Length of a blob") as axes:
        for (name, column), (style, color) in zip(lengths.items(), _LINES, strict=False):
            axes.step(column.index, column, where="post", ls=style, color=color, label=str(name))
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("plaintext (bytes)")
        axes.set_ylabel("blob (characters)")
        axes.yaxis.set_major_formatter(short_numbers())
        legend(axes)
    return axes
