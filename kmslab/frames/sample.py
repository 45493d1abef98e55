"""A made-up history of records to try things on: the same one for the same seed."""

from __future__ import annotations

from binascii import crc32
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

import pandas as pd

from kmslab.clock import ManualClock
from kmslab.encoding import b64
from kmslab.frames.reading import from_records
from kmslab.lab import Lab
from kmslab.model import CTYUN, TENCENT, Record
from kmslab.providers.tencent.blob import NO_CONTEXT, SEPARATOR

BEGIN: Final = datetime(2024, 7, 1, tzinfo=UTC)
"""When a history begins."""

_STEP: Final = timedelta(days=10)

# Provider, alias, days between rotations (0: never), the share of the records.
_KEYS: Final = (
    (TENCENT, "orders", 90, 35),
    (TENCENT, "profiles", 180, 20),
    (TENCENT, "sessions", 0, 10),
    (CTYUN, "billing", 120, 25),
    (CTYUN, "devices", 180, 10),
)
_OWNERS: Final = ("checkout", "warehouse", "invoicing", "loyalty", "support", "data-platform")
_WEIGHTS: Final = (30, 22, 18, 14, 10, 6)
_CLOUD_IN: Final = 40
"""One in so many records of the first key has a blob of the cloud itself."""
_NAMED_IN: Final = 10
"""One in so many of those says its key."""
_CUT_IN: Final = 2_000
"""One blob in so many was cut off on its way."""


@dataclass(frozen=True, slots=True)
class History:
    """A lab in memory, its clock, which stands at the end, and the records made in between."""

    lab: Lab
    clock: ManualClock
    frame: pd.DataFrame


def history(rows: int = 100_000, *, days: int = 730, seed: int = 7) -> History:
    """Records of both providers, five keys and six owners, made over `days` while keys rotate.

    More and more of them are made. A few have blobs of Tencent's cloud itself, which name no key,
    and a few blobs are cut. Keys and blobs come from the seed: nothing real belongs under them.

    >>> made = history(500, days=200)
    >>> len(made.frame), sorted(made.frame["owner"].unique())[0]
    (500, 'checkout')
    """
    maker = _Maker(rows, days, Random(seed))  # noqa: S311  no secret comes of it
    return History(maker.lab, maker.clock, from_records(maker.records()))


class _Maker:
    def __init__(self, rows: int, days: int, random: Random) -> None:
        self._random = random
        self._steps = max(1, timedelta(days=days) // _STEP)
        self._rows = rows
        self.clock = ManualClock(BEGIN)
        self.lab = Lab.in_memory(clock=self.clock, entropy=random.randbytes)
        self._ids = [
            self.lab.tencent().create_key(alias).key_id
            if provider == TENCENT
            else self.lab.ctyun().create_key(alias=alias).key_id
            for provider, alias, _, _ in _KEYS
        ]
        self._print = random.randbytes(64)

    def records(self) -> list[Record]:
        """The records, oldest first, while the clock moves on."""
        found: list[Record] = []
        whole = self._steps * (self._steps + 1) // 2
        for step in range(self._steps):
            until = self._rows * (step + 1) * (step + 2) // 2 // whole
            found += self._made(until - len(found))
            self.clock.advance(_STEP)
            self._rotate(step + 1)
        found.sort(key=lambda record: (record.created_at, record.ciphertext_blob))
        return [self._named(number, record) for number, record in enumerate(found)]

    def _rotate(self, step: int) -> None:
        for key_id, (_, _, interval, _) in zip(self._ids, _KEYS, strict=True):
            if interval and step < self._steps and step % (interval // _STEP.days) == 0:
                self.lab.rotate(key_id)

    def _made(self, count: int) -> list[Record]:
        """So many records of one step, in which no key rotates."""
        chosen = self._random.choices(range(len(_KEYS)), [share for *_, share in _KEYS], k=count)
        made: list[Record] = []
        for number, (provider, _, _, _) in enumerate(_KEYS):
            made += self._of_key(number, provider, chosen.count(number))
        return made

    def _of_key(self, number: int, provider: str, count: int) -> list[Record]:
        random, key_id = self._random, self._ids[number]
        owners = random.choices(_OWNERS, _WEIGHTS, k=count)
        contexts = [f'{{"app":"{owner}"}}' if provider == TENCENT else None for owner in owners]
        plaintexts = [random.randbytes(random.choice((16, 32, 32, 48))) for _ in range(count)]
        sealed = self.lab.kms(provider).encrypt_many(
            plaintexts, key_id=key_id, contexts=[context or "" for context in contexts]
        )
        records = []
        for owner, context, blob in zip(owners, contexts, sealed.ciphertext_blob, strict=True):
            at = self.clock.now() + random.random() * _STEP
            at = at.replace(microsecond=0)
            if number == 0 and random.randrange(_CLOUD_IN) == 0:
                named = key_id if random.randrange(_NAMED_IN) == 0 else None
                records.append(
                    Record(
                        "", TENCENT, self._cloud_blob(), key_id=named, created_at=at, owner=owner
                    )
                )
                continue
            text = blob or ""
            text = text[:-7] if random.randrange(_CUT_IN) == 0 else text
            records.append(Record("", provider, text, context=context, created_at=at, owner=owner))
        return records

    def _cloud_blob(self) -> str:
        """A blob with the shape of the cloud's: it names nothing, and nobody can open it."""
        body = self._random.randbytes(32)
        body += crc32(body).to_bytes(4, "little")
        return SEPARATOR.join([b64(self._print), NO_CONTEXT, b64(body)])

    @staticmethod
    def _named(number: int, record: Record) -> Record:
        return Record(
            f"rec-{number + 1:06}",
            record.provider,
            record.ciphertext_blob,
            context=record.context,
            key_id=record.key_id,
            created_at=record.created_at,
            owner=record.owner,
        )
