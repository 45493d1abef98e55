"""Frames for tests: blobs of a lab that stands still, and clouds' blobs that nobody can open."""

from __future__ import annotations

import json
from binascii import crc32
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from kmslab import Lab, ManualClock
from kmslab.encoding import b64
from kmslab.model import Key
from kmslab.providers.tencent.blob import NO_CONTEXT

START = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT = '{"app":"orders"}'
PUBLIC = json.loads(
    (Path(__file__).parents[2] / "sample_data/inputs/public-blobs.json").read_text("utf-8")
)


def cloud_blob(print_: int, body: int = 0, *, context: bool = False) -> str:
    """A blob as Tencent's cloud makes them: right in shape, and of no lab."""
    third = body.to_bytes(32, "big")
    third += crc32(third).to_bytes(4, "little")
    second = b64(bytes(16)) if context else NO_CONTEXT
    return "-k-".join([b64(bytes([print_]) * 64), second, b64(third)])


class World:
    """A lab in memory on a manual clock, with a key of each provider, rotated every 30 days."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.lab = Lab.in_memory(clock=self.clock)
        self.tencent: Key = self.lab.tencent().create_key("orders")
        self.ctyun: Key = self.lab.ctyun().create_key()
        self.rows: list[dict[str, Any]] = []
        for _ in range(3):
            for owner in ("shop", "billing"):
                self._make(owner)
                self.clock.advance(timedelta(days=10))
            self.clock.advance(timedelta(days=10))
            self.lab.rotate(self.tencent.key_id)
            self.lab.rotate(self.ctyun.key_id)
        self._make("shop")

    def _make(self, owner: str) -> None:
        t = self.lab.tencent().encrypt(self.tencent.key_id, b"a secret", context=CONTEXT)
        c = self.lab.ctyun().encrypt(self.ctyun.key_id, b"another")
        for provider, blob, context in (("tencent", t, CONTEXT), ("ctyun", c, None)):
            row = {"record_id": f"r{len(self.rows)}", "provider": provider, "ciphertext_blob": blob}
            row |= {"encryption_context": context, "owner": owner, "created_at": self.clock.now()}
            self.rows.append(row)

    def frame(self) -> pd.DataFrame:
        """The records, an index that is not 0, 1, 2, and a column that means nothing to kmslab."""
        frame = pd.DataFrame(self.rows).assign(note="x")
        return frame.set_index(pd.Index(range(100, 100 + len(frame))))
