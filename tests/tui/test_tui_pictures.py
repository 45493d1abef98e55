"""The pictures of the explorer are what docs/img/make.py makes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "docs" / "img"


@pytest.mark.usefixtures("unpainted")
def test_the_pictures_are_as_they_are_made(tmp_path: Path) -> None:
    runpy.run_path(str(IMAGES / "explorer.py"))["main"](tmp_path)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.svg")}
    kept = {path.name: path.read_text(encoding="utf-8") for path in IMAGES.glob("*.svg")}
    assert made.keys() == kept.keys()
    for name, text in made.items():
        addresses = set(re.findall(r"https?://[^\s\"')]+", text))
        assert addresses == {"http://www.w3.org/2000/svg"}, name  # the name of the format
        assert text == kept[name], f"{name}: python docs/img/make.py makes it anew"
