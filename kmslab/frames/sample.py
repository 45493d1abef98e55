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
from kmslab.lab import Lab
from kmslab.model import CTYUN, TENCENT
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
# The shares of the first key's records with a blob of the cloud itself, of those that say their
# key, and of all blobs that were cut off on their way.
_CLOUD: Final = 1 / 40
_NAMED: Final = 1 / 10
_CUT: Final = 1 / 2_000

_Row = tuple[int, str, str, str, str, str]

_COLUMNS: Final = {
    "created_at": "int64",
    "provider": "category",
    "ciphertext_blob": "string",
    "encryption_context": "string",
    "key_id": "string",
    "owner": "category",
}


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
    return History(maker.lab, maker.clock, maker.frame())


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

    def frame(self) -> pd.DataFrame:
        """The records, oldest first, while the clock moves on."""
        found: list[_Row] = []
        whole = self._steps * (self._steps + 1) // 2
        for step in range(self._steps):
            until = self._rows * (step + 1) * (step + 2) // 2 // whole
            found += self._made(until - len(found))
            self.clock.advance(_STEP)
            self._rotate(step + 1)
        found.sort()
        columns = list(zip(*found, strict=True)) or [()] * len(_COLUMNS)
        made = {
            name: pd.Series(list(column), dtype=dtype)
            for (name, dtype), column in zip(_COLUMNS.items(), columns, strict=True)
        }
        seconds = pd.to_timedelta(made.pop("created_at"), unit="s").dt.as_unit("us")
        ids = pd.Series([f"rec-{number:06}" for number in range(1, len(found) + 1)], dtype="string")
        for name in ("encryption_context", "key_id"):
            made[name] = made[name].mask(made[name] == "")
        return pd.DataFrame({"record_id": ids, **made, "created_at": seconds + BEGIN})

    def _rotate(self, step: int) -> None:
        for key_id, (_, _, interval, _) in zip(self._ids, _KEYS, strict=True):
            if interval and step < self._steps and step % (interval // _STEP.days) == 0:
                self.lab.rotate(key_id)

    def _made(self, count: int) -> list[_Row]:
        """So many records of one step, in which no key rotates."""
        chosen = self._random.choices(range(len(_KEYS)), [share for *_, share in _KEYS], k=count)
        made: list[_Row] = []
        for number, (provider, _, _, _) in enumerate(_KEYS):
            made += self._of_key(number, provider, chosen.count(number))
        return made

    def _of_key(self, number: int, provider: str, count: int) -> list[_Row]:
        random, key_id = self._random, self._ids[number]
        owners = random.choices(_OWNERS, _WEIGHTS, k=count)
        contexts = [f'{{"app":"{owner}"}}' if provider == TENCENT else "" for owner in owners]
        sizes = random.choices((16, 32, 32, 48), k=count)
        sealed = self.lab.kms(provider).encrypt_many(
            [random.randbytes(size) for size in sizes], key_id=key_id, contexts=contexts
        )
        begin = int((self.clock.now() - BEGIN).total_seconds())
        rows = []
        for owner, context, blob in zip(owners, contexts, sealed.ciphertext_blob, strict=True):
            at = begin + int(random.random() * _STEP.total_seconds())
            if number == 0 and random.random() < _CLOUD:
                named = key_id if random.random() < _NAMED else ""
                rows.append((at, provider, self._cloud_blob(), "", named, owner))
                continue
            text = blob or ""
            rows.append(
                (at, provider, text[:-7] if random.random() < _CUT else text, context, "", owner)
            )
        return rows

    def _cloud_blob(self) -> str:
        """A blob with the shape of the cloud's: it names nothing, and nobody can open it."""
        body = self._random.randbytes(32)
        body += crc32(body).to_bytes(4, "little")
        return SEPARATOR.join([b64(self._print), NO_CONTEXT, b64(body)])
