"""An inventory: a DataFrame of records with what their blobs say of them, column by column.

Everything is told from heads, so nothing of it is proven: `campaign plan --deep` opens blobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kmslab.analysis.classify import sendable
from kmslab.analysis.frame_columns import ADDED as ADDED
from kmslab.analysis.frame_columns import (
    TIME,
    blobs,
    category,
    check_columns,
    column_numbered,
    days,
    made_at,
    moment,
    numbered,
    strings,
    taken,
    times,
)
from kmslab.analysis.given import check_providers
from kmslab.analysis.heads import FORMATS, NO_BLOB, Heads, is_inferred
from kmslab.analysis.many_heads import NOTHING, ManyHeads, many_heads
from kmslab.analysis.versions import Period, periods
from kmslab.model import CTYUN, TENCENT, BlobFormat, Key, UnverifiedHeader
from kmslab.providers.base import Providers

KNOWN_BY: Final = ("header", "record", "fingerprint", "created_at", "inferred", "unknown")
"""How a key or version is known: named by the blob's header; by the record's own columns; since
another record whose blob has the same fingerprint names the key; since the record was made while
that version was primary; named by the head of a cloud's own blob, or where the Kms does not tell
whether it is so (`heads.is_inferred`); or not at all."""

_HOW_KNOWN: Final = {"key_known_by", "version_known_by", "context_known_by"}

_TEXTS: Final = (
    "provider",
    "key_id",
    "encryption_context",
    "source_key_id",
    "source_key_version_id",
)

_HEADER, _RECORD, _FINGERPRINT, _CREATED_AT, _INFERRED, _UNKNOWN = range(6)

_Ints = NDArray[np.int64]


class _Facts:
    """What is known of distinct key versions, and of keys of which no version is known.

    Rows name them by number, -1 for none.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str | None, str | None, Period | None], int] = {}

    def number(
        self, key_id: str | None, version_id: str | None = None, period: Period | None = None
    ) -> int:
        """The number of what is known."""
        return self._numbers.setdefault((key_id, version_id, period), len(self._numbers))

    def columns(self, fact: _Ints) -> dict[str, Any]:
        """The columns of an inventory that it makes."""
        known = list(self._numbers)
        found = [period for _, _, period in known]
        is_primary = taken([p and p.is_primary for p in found], fact, "boolean")
        return {
            "key_id": taken([key_id for key_id, _, _ in known], fact, "string"),
            "key_version_id": taken([version_id for _, version_id, _ in known], fact, "string"),
            "version_number": taken([p and p.number for p in found], fact, "Int64"),
            "is_primary": is_primary,
            "stale": ~is_primary,
            "version_made_at": taken([p and p.since for p in found], fact, TIME),
            "primary_until": taken([p and p.until for p in found], fact, TIME),
        }


class _Keys:
    """The keys that heads name, and their versions, each asked of the Kms once."""

    def __init__(self, providers: Providers | None) -> None:
        self._heads = None if providers is None else Heads(providers)
        self._periods: dict[tuple[str, str], list[Period]] = {}
        self._by_version: dict[tuple[str, str, str | None], Period] = {}

    def periods(self, provider: str, key_id: str) -> list[Period]:
        """The versions of a key; none where it is not known."""
        if self._heads is None:
            return []
        name = provider, key_id
        if name not in self._periods:
            kms, key = self._heads.kms(provider), self._heads.key(provider, key_id)
            found = periods(kms, key) if kms is not None and isinstance(key, Key) else []
            self._periods[name] = found
            self._by_version |= {(*name, period.version_id): period for period in found}
        return self._periods[name]

    def sendable(self, header: UnverifiedHeader) -> bool | None:
        """Whether a blob with this header could be re-encrypted; None where there is no Kms."""
        if self._heads is None:
            return None
        return header is not NOTHING and sendable(self._heads.named(header))

    def inferred(self, header: UnverifiedHeader) -> tuple[bool, bool]:
        """Whether nothing but the head says the key, and the version."""
        if self._heads is None or header is NOTHING:
            alone = is_inferred(header.format, told=True)
            return alone, alone
        head = self._heads.named(header)
        return head.key_inferred, head.version_inferred

    def period(self, header: UnverifiedHeader) -> Period | None:
        """The version that a header names, as the Kms has it; None where it does not know it."""
        if self._heads is None or header.key_id is None or header.key_version_id is None:
            return None
        if self._heads.named(header).version is None:
            return None  # a cloud's own blob is none of a lab's, whatever it names
        self.periods(header.provider, header.key_id)
        return self._by_version.get((header.provider, header.key_id, header.key_version_id))


def inspect(
    frame: pd.DataFrame, providers: Providers | None = None, *, now: datetime | None = None
) -> pd.DataFrame:
    """A new frame: the columns of `frame`, and what the heads of its blobs say.

    Needs a column `ciphertext_blob` of texts; reads `provider`, `key_id`, `created_at`,
    `re_encrypted_at`, `encryption_context`, `source_key_id` and `source_key_version_id` where they
    are there. Blobs are looked at strictly. With `providers`, a `Lab` for example, versions are
    told apart; `now` is what ages are counted to (the system's time, if it is not given).
    FrameError where a column is missing, or holds something else.

    ================== ======================= =====================================================
    column             dtype                   what it holds; NA where it is not known
    ================== ======================= =====================================================
    provider           category                the record's; where it has none, the blob's
    format             category                lab, cloud, public-key, unknown
    key_id             string                  of the blob, as far as it is known
    key_known_by       category                header, record, fingerprint, inferred, unknown
    claimed_key_id     string                  what the record itself says in `key_id`
    key_version_id     string
    version_number     Int64
    version_known_by   category                header, record, created_at, inferred, unknown
    is_primary         boolean                 whether the version is the primary one of its key
    stale              boolean                 whether it is not
    sendable           boolean                 whether a campaign could re-encrypt the blob, as far
                                               as its key and version tell; NA without providers
    has_context        boolean                 whether the blob was made under a context
    context_known_by   category                header, record, unknown
    version_made_at    datetime64[us, UTC]
    primary_until      datetime64[us, UTC]     when the version stopped being primary
    age_days           float64                 since the blob was made
    stale_days         float64                 since primary_until; 0 while it is primary
    error              string                  why the text is no blob of its provider
    ================== ======================= =====================================================

    A Tencent cloud's blob names no key. Where some record with the same fingerprint names its key
    in `key_id`, all of them are on that key (inferred, as equal fingerprints are); where two name
    different ones, one of them is wrong, and `error` says so. Its version is the one that was
    primary when the blob was made: at `re_encrypted_at`, where the frame has it, else at
    `created_at`. After a campaign, which leaves `created_at` as it is, the versions of such blobs
    are those of before.

    Columns of these names that the frame has already are replaced. An inventory can be inspected
    again, alone or together with records that never were: `claimed_key_id` keeps what each record
    said, so that nothing that was inferred is taken for it.
    """
    check_columns(frame, ["ciphertext_blob"])
    if providers is not None:
        check_providers(providers)
    ages_to = moment(now)
    for name in _TEXTS:
        if name in frame.columns:
            strings(frame, name)
    heads = many_heads(blobs(frame), strict=True)
    rows = _Rows(frame, heads, _Keys(providers))
    columns = rows.columns()
    if "created_at" in frame.columns:
        columns["created_at"] = times(frame, "created_at")
    until = pd.Series(columns["primary_until"])
    primary = columns["is_primary"].to_numpy(dtype=bool, na_value=False)
    stale_days = np.maximum(days(ages_to, until).to_numpy(), 0.0)
    columns["stale_days"] = np.where(primary, 0.0, stale_days)
    columns["age_days"] = days(ages_to, rows.made_at).to_numpy()
    return frame.assign(**{n: columns[n] for n in ("created_at", *ADDED) if n in columns})


def as_recorded(frame: pd.DataFrame) -> pd.DataFrame:
    """The records of an inventory without what an inspection said of their blobs: `key_id` is what
    each record says. Another frame is given back as it is.

    >>> raw = pd.DataFrame({"ciphertext_blob": ["cut"], "key_id": ["mine"], "error": ["none"]})
    >>> as_recorded(inspect(raw)).to_dict("list")
    {'ciphertext_blob': ['cut'], 'key_id': ['mine'], 'provider': [nan]}
    >>> as_recorded(raw) is raw
    True
    """
    if not _HOW_KNOWN & set(frame.columns):
        return frame
    said = [name for name in ADDED if name in frame.columns and name not in ("provider", "key_id")]
    return frame.assign(key_id=_claimed_keys(frame)).drop(columns=said)


def _claimed_keys(frame: pd.DataFrame) -> pd.Series[Any]:
    """The keys that the records themselves name, whether they were inspected before or not."""
    key_ids, claimed = (
        strings(frame, name).astype("string")
        if name in frame.columns
        else pd.Series(pd.NA, index=frame.index, dtype="string")
        for name in ("key_id", "claimed_key_id")
    )
    if "key_known_by" not in frame.columns:
        return key_ids
    return key_ids.mask(frame["key_known_by"].notna(), claimed)


class _Rows:
    """What the rows of a frame are found to be.

    `case` numbers the distinct pairs of a head and the provider that the record says; everything
    that does not differ within a case is told once.
    """

    def __init__(self, frame: pd.DataFrame, heads: ManyHeads, keys: _Keys) -> None:
        self._frame = frame
        self._heads = heads
        self._keys = keys
        self._facts = _Facts()
        self.made_at = made_at(frame)
        self._claimed_keys = _claimed_keys(frame)
        claims, names = column_numbered(self._frame, "provider")
        self._case, cases = pd.factorize(heads.codes * (len(names) + 1) + claims + 1)
        heads_of, claims_of = np.divmod(cases, len(names) + 1)
        self._headers: list[UnverifiedHeader] = []
        self._providers: list[str | None] = []
        self._faults: list[str | None] = []
        for head, claim in zip(heads_of.tolist(), (claims_of - 1).tolist(), strict=True):
            self._judge(heads.headers[head], None if claim < 0 else names[claim])

    def _judge(self, header: UnverifiedHeader, claim: str | None) -> None:
        """A head, in a record that says it is of a provider."""
        fault = None
        if claim is not None and claim not in FORMATS:
            fault = f"provider {claim[:40]!r} is neither tencent nor ctyun"
        elif claim not in (None, header.provider) and header is not NOTHING:
            fault = f"the blob is of {header.provider}, and the record says {claim}"
        self._headers.append(header if fault is None else NOTHING)
        self._providers.append(claim or header.provider or None)
        self._faults.append(fault)

    def columns(self) -> dict[str, Any]:
        """The columns, but for those that count days."""
        fact, key_by, version_by = self._named()
        contradicted = self._fingerprinted(fact, key_by, version_by)
        self._public_keys(fact, key_by, version_by)
        found = self._facts.columns(fact)
        context, context_by = self._contexts()
        formats = [list(BlobFormat).index(header.format) for header in self._headers]
        providers = list(dict.fromkeys([*FORMATS, *filter(None, self._providers)]))
        places = {name: place for place, name in enumerate(providers)}
        numbers = [places.get(name or "", -1) for name in self._providers]
        return {
            **found,
            "provider": category(providers, np.array(numbers, np.int64)[self._case]),
            "format": category(list(BlobFormat), np.array(formats, np.int64)[self._case]),
            "key_known_by": category(KNOWN_BY, key_by),
            "claimed_key_id": self._claimed_keys.array,
            "version_known_by": category(KNOWN_BY, version_by),
            "sendable": taken(list(map(self._keys.sendable, self._headers)), self._case, "boolean"),
            "has_context": context,
            "context_known_by": category(KNOWN_BY, context_by),
            "error": self._errors(contradicted),
        }

    def _named(self) -> tuple[_Ints, _Ints, _Ints]:
        """Facts of the rows whose blobs name key and version."""
        facts, key_by, version_by = [], [], []
        for header in self._headers:
            named = header.key_id is not None
            period = self._keys.period(header) if named else None
            facts.append(
                self._facts.number(header.key_id, header.key_version_id, period) if named else -1
            )
            key, version = self._keys.inferred(header)
            key_by.append((_INFERRED if key else _HEADER) if named else _UNKNOWN)
            version_by.append((_INFERRED if version else _HEADER) if named else _UNKNOWN)
        told = facts, key_by, version_by
        fact, by_key, by_version = (np.array(each, np.int64)[self._case] for each in told)
        return fact, by_key, by_version

    def _fingerprinted(self, fact: _Ints, key_by: _Ints, version_by: _Ints) -> dict[int, str]:
        """Facts of the rows on Tencent cloud blobs; the errors of those that contradict another."""
        prints = [header.fingerprint for header in self._headers]
        by_case, distinct = numbered(pd.Series(prints, dtype="object"))
        numbers = by_case[self._case]
        rows = np.flatnonzero(numbers >= 0)
        if not len(rows):
            return {}
        numbers = numbers[rows]
        claims, names = numbered(self._claimed_keys)
        own = claims[rows]
        keys, errors = _keys_of_prints(numbers, own, len(distinct), names)
        of_row = keys[numbers]
        known = of_row >= 0
        key_by[rows[known]] = np.where(own[known] >= 0, _RECORD, _FINGERPRINT)
        for alike in _split(of_row):
            if known[alike[0]]:
                self._by_time(rows[alike], names[of_row[alike[0]]], fact, version_by)
        wrong = np.flatnonzero(np.isin(numbers, list(errors)))
        return {int(rows[at]): errors[numbers[at]] for at in wrong}

    def _by_time(self, rows: _Ints, key_id: str, fact: _Ints, version_by: _Ints) -> None:
        """The versions of rows on a key, by the time at which each was made."""
        fact[rows] = self._facts.number(key_id)
        found = self._keys.periods(TENCENT, key_id)
        if not found:
            return
        starts = pd.Series([period.since for period in found], dtype=TIME).astype("int64")
        created = self.made_at.iloc[rows]
        at = np.searchsorted(starts.to_numpy(), created.astype("int64").to_numpy(), "right") - 1
        told = (at >= 0) & created.notna().to_numpy()
        numbers = np.array(
            [self._facts.number(key_id, period.version_id, period) for period in found], np.int64
        )
        fact[rows[told]] = numbers[at[told]]
        version_by[rows[told]] = _CREATED_AT

    def _public_keys(self, fact: _Ints, key_by: _Ints, version_by: _Ints) -> None:
        """Facts of the rows on public-key ciphertext: what the record says."""
        pairs = np.array([header.format is BlobFormat.PUBLIC_KEY for header in self._headers])
        rows = np.flatnonzero(pairs[self._case]) if len(pairs) else np.array([], np.int64)
        if not len(rows):
            return
        keys, key_ids = column_numbered(self._frame, "source_key_id")
        versions, version_ids = column_numbered(self._frame, "source_key_version_id")
        for alike in _split(keys[rows] * (len(version_ids) + 1) + versions[rows]):
            said = rows[alike]
            key, version = keys[said[0]], versions[said[0]]
            if key < 0 and version < 0:
                continue
            key_id = None if key < 0 else key_ids[key]
            version_id = None if version < 0 else version_ids[version]
            header = UnverifiedHeader(CTYUN, BlobFormat.PUBLIC_KEY, key_id, version_id)
            fact[said] = self._facts.number(key_id, version_id, self._keys.period(header))
            key_by[said] = _UNKNOWN if key_id is None else _RECORD
            version_by[said] = _UNKNOWN if version_id is None else _RECORD

    def _contexts(self) -> tuple[Any, _Ints]:
        """Whether each blob was made under a context, and how that is known."""
        told = [_context_of(header) for header in self._headers]
        context = taken(told, self._case, "boolean")
        by = np.where(context.isna(), _UNKNOWN, _HEADER)
        labs = [h.format is BlobFormat.LAB and h.provider == TENCENT for h in self._headers]
        if any(labs) and "encryption_context" in self._frame.columns:
            rows = np.array(labs)[self._case]
            texts = strings(self._frame, "encryption_context")[rows]
            none = texts.isna() | texts.fillna("").str.fullmatch(r"\s*(\{\s*\})?\s*")
            context[rows] = ~none.to_numpy().astype(bool)
            by[rows] = _RECORD
        return context, by.astype(np.int64)

    def _errors(self, contradicted: dict[int, str]) -> Any:
        by_case, faults = numbered(pd.Series(self._faults, dtype="object"))
        codes = by_case[self._case]
        missing = _empty(self._frame["ciphertext_blob"])
        for row, error in {**contradicted, **self._heads.errors}.items():
            if codes[row] < 0:
                faults.append(NO_BLOB if missing[row] else error)
                codes[row] = len(faults) - 1
        return taken(faults, codes, "string")


def _empty(cells: pd.Series[Any]) -> Any:
    """Which cells hold nothing."""
    return cells.isna().to_numpy(bool) | (cells == "").fillna(value=False).to_numpy(bool)


def _split(numbers: _Ints) -> list[_Ints]:
    """The places of each distinct number."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _context_of(header: UnverifiedHeader) -> bool | None:
    """Whether a blob with this header was made under a context; None where it does not tell."""
    return False if header.provider == CTYUN else header.has_context


def _keys_of_prints(
    prints: _Ints, claims: _Ints, count: int, names: Sequence[str]
) -> tuple[_Ints, Mapping[int, str]]:
    """For each fingerprint the number of the key that its records name, -1 for none; and what is
    wrong with those whose records name several."""
    keys, errors = np.full(count, -1), {}
    claimed = claims >= 0
    pairs = np.unique(prints[claimed] * (len(names) + 1) + claims[claimed])
    named, key = np.divmod(pairs, len(names) + 1)
    keys[named] = key
    for several in np.flatnonzero(np.bincount(named, minlength=count) > 1).tolist():
        keys[several] = -1
        found = ", ".join(names[k][:40] for k in key[named == several].tolist()[:3])
        errors[several] = f"records with this blob's fingerprint name different keys: {found}"
    return keys, errors
