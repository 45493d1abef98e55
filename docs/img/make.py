"""Make every picture of the documentation: python docs/img/make.py [FOLDER]"""

from __future__ import annotations

import sys
from pathlib import Path

import charts
import explorer


def main(folder: Path) -> None:
    """Make them all."""
    explorer.main(folder)
    charts.main(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
