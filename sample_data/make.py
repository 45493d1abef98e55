"""Make the sample data: `seed.yaml` and `records.csv`, the same bytes each time.

    python sample_data/make.py

Two years of a lab with keys of both providers, told in README.md. Every "random" value is a hash
of its own label (see `Draw`), so that a change in one place leaves the rest as it was. RSA keys
and OAEP ciphertexts were made once by the openssl command line and are read from `inputs/`.
Plaintexts are written nowhere.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from kmslab.context import context_text
from kmslab.keystore.lifecycle import random_id
from kmslab.model import CTYUN, TENCENT, KeySpec, KeyState
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent
from kmslab.providers.tencent.material import time_based_id

FOLDER = Path(__file__).parent
INPUTS = FOLDER / "inputs"
BEGIN = datetime(2024, 11, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BEIJING = timezone(timedelta(hours=8))
SHA_1, SHA_256 = "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"

COLUMNS = (
    "record_id",
    "provider",
    "key_id",
    "ciphertext_blob",
    "encryption_context",
    "created_at",
    "owner",
    "tenant_id",
    "source_key_id",
    "source_key_version_id",
    "source_encryption_algorithm",
    "note",
)
OWNERS = (
    "orders-team",
    "支付平台组",
    "王小明",
    "风控中心",
    "data-platform",
    "李娜",
    "Zoë Müller",
    "客服系统",
    "欧阳建国",
    "billing",
)
CUSTOMERS = ("杭州云锦", "成都锦里", "西安长风", "青岛海韵", "武汉江城", "Söder & Co", "廣州粵海")
NOTES = (
    "rotated by hand, see ticket 4711",
    'imported from "legacy", unchecked',
    "two lines:\nthe second one, with a comma",
    "客户要求保留，勿删",
    "=not a formula",
    " blanks at both ends ",
)


class Draw:
    """Values that look random and depend on nothing but their label."""

    def bytes(self, label: str, size: int) -> bytes:
        """`size` bytes."""
        blocks = (
            hashlib.sha256(f"kmslab sample data 1/{label}/{number}".encode()).digest()
            for number in range(-(-size // 32))
        )
        return b"".join(blocks)[:size]

    def below(self, label: str, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        return int.from_bytes(self.bytes(label, 8), "big") % limit

    def one_of(self, label: str, options: Sequence[Any]) -> Any:
        """One of some options."""
        return options[self.below(label, len(options))]

    def moment(self, label: str, first: datetime, last: datetime) -> datetime:
        """A whole second from `first` to before `last`."""
        return first + timedelta(seconds=self.below(label, int((last - first).total_seconds())))


DRAW = Draw()


@dataclass(frozen=True)
class Version:
    """One version of a sample key, with its material: bytes, or PEM text of a pair."""

    version_id: str
    made_at: datetime
    due_at: datetime | None
    material: bytes | str


@dataclass(frozen=True)
class Key:
    """A sample key. Records are written under it from `begin` to `until`."""

    provider: str
    alias: str
    description: str
    begin: datetime
    records: int
    spec: KeySpec = KeySpec.AES_256
    state: KeyState = KeyState.ENABLED
    until: datetime = END
    rotation_days: int | None = None
    rotated_by_hand: tuple[datetime, ...] = ()
    deletion_at: datetime | None = None
    context: Callable[[str, str], str] = lambda _label, _tenant: ""
    key_id: str = ""
    versions: tuple[Version, ...] = ()

    def primary_at(self, moment: datetime) -> int:
        """The index of the version that was primary at a time."""
        return max(n for n, v in enumerate(self.versions) if n == 0 or v.made_at <= moment)


# Contexts, as texts: what is encrypted under is exactly what stands in the column.


def tenant_context(label: str, tenant: str) -> str:
    """Mostly canonical; some writers put blanks, as json.dumps of Python and others do."""
    spellings = ('{"tenant":"%s"}',) * 10 + ('{"tenant": "%s"}', '{ "tenant" : "%s" }')
    spelling: str = DRAW.one_of(f"{label}/spelling", spellings)
    return spelling % tenant


def customer_context(label: str, tenant: str) -> str:
    """CJK names in keys and values."""
    customer = DRAW.one_of(f"{label}/customer", CUSTOMERS)
    if DRAW.below(f"{label}/language", 3):
        return json.dumps({"客户": customer, "租户": tenant}, ensure_ascii=False)
    return json.dumps({"app": "crm", "tenant": tenant}, separators=(",", ":"))


def payment_context(_label: str, _tenant: str) -> str:
    """The same for every record."""
    return '{"app":"payments","env":"prod"}'


def day(text: str) -> datetime:
    """The time of a date, or of a date and a time, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


PLANS = (
    Key(
        TENCENT,
        "orders-data",
        "订单库的数据密钥",
        day("2024-11-04T09:30:00"),
        620,
        rotation_days=90,
        context=tenant_context,
    ),
    Key(
        TENCENT,
        "customer-profiles",
        "客户资料列加密",
        day("2024-11-20T02:00:00"),
        430,
        rotation_days=180,
        context=customer_context,
    ),
    Key(
        TENCENT,
        "payments-vault",
        "payment tokens, SM4 by regulation (国密)",
        day("2025-01-15T06:45:00"),
        230,
        spec=KeySpec.SM4,
        rotated_by_hand=(day("2025-09-01T03:00:00"), day("2026-06-18T03:00:00")),
        context=payment_context,
    ),
    Key(TENCENT, "sessions", "session secrets; never rotated", day("2025-06-01T00:00:00"), 310),
    Key(
        TENCENT,
        "legacy-app",
        "archived: still decrypts, encrypts no more",
        day("2024-11-01T08:00:00"),
        130,
        state=KeyState.ARCHIVED,
        until=day("2026-02-01"),
        rotated_by_hand=(day("2025-08-10T12:00:00"),),
    ),
    Key(
        TENCENT,
        "partner-feed",
        "disabled when the contract ended",
        day("2024-12-10T10:00:00"),
        80,
        state=KeyState.DISABLED,
        until=day("2026-04-30"),
        rotated_by_hand=(day("2025-12-01T10:00:00"),),
        context=tenant_context,
    ),
    Key(
        TENCENT,
        "old-reports",
        "报表归档，待删除",
        day("2024-11-02T00:10:00"),
        60,
        state=KeyState.PENDING_DELETION,
        until=day("2025-10-01"),
        deletion_at=day("2026-11-24T15:59:59"),
    ),
    Key(
        TENCENT,
        "trial-2024",
        "deleted, and its records forgotten",
        day("2024-11-05T00:00:00"),
        40,
        state=KeyState.DELETED,
        until=day("2025-05-01"),
        deletion_at=day("2025-09-30T15:59:59"),
    ),
    Key(
        CTYUN,
        "billing",
        "账单系统",
        day("2024-11-06T07:15:00"),
        560,
        rotation_days=120,
    ),
    Key(
        CTYUN,
        "iot/devices",
        "device keys, SM4",
        day("2024-12-01T16:00:00"),
        300,
        spec=KeySpec.SM4,
        rotation_days=180,
    ),
    Key(
        CTYUN,
        "documents",
        "文档加密",
        day("2025-03-03T03:03:03"),
        170,
        rotated_by_hand=(day("2026-01-20T09:00:00"),),
    ),
    Key(
        CTYUN,
        "exchange",
        "a pair: partners encrypt with the public key",
        day("2025-02-01T00:00:00"),
        0,
        spec=KeySpec.RSA_2048,
        rotated_by_hand=(day("2026-03-01T00:00:00"),),
    ),
    Key(
        CTYUN,
        "promotion-2025",
        "disabled after the promotion",
        day("2025-05-20T00:00:00"),
        60,
        state=KeyState.DISABLED,
        until=day("2025-07-01"),
    ),
    Key(
        CTYUN,
        "test-import",
        "测试导入，待删除",
        day("2025-08-08T08:08:08"),
        40,
        state=KeyState.PENDING_DELETION,
        until=day("2025-09-01"),
        deletion_at=day("2026-11-28T02:00:00"),
    ),
    Key(
        CTYUN,
        "pilot",
        "deleted, and its records forgotten",
        day("2024-11-11T11:11:11"),
        35,
        state=KeyState.DELETED,
        until=day("2025-03-01"),
        deletion_at=day("2025-12-24T00:00:00"),
    ),
)


def made(plan: Key) -> Key:
    """A planned key with its id and versions."""
    entropy = entropy_of(f"key/{plan.alias}")
    key_id = (
        time_based_id(plan.begin.timestamp(), entropy)
        if plan.provider == TENCENT
        else random_id(entropy)
    )
    dates: list[tuple[datetime, datetime | None]] = [(plan.begin, None)]
    dates += [(moment, None) for moment in plan.rotated_by_hand]
    if plan.rotation_days is not None:
        step = plan.rotation_days * DAY
        for number in range(1, (END - plan.begin) // step + 1):
            due = plan.begin + number * step
            late = timedelta(minutes=DRAW.below(f"late/{plan.alias}/{number}", 600))
            dates.append((min(due + late, END), due))
    versions = tuple(version(plan, number, *when) for number, when in enumerate(dates, start=1))
    return replace(plan, key_id=key_id, versions=versions)


def version(plan: Key, number: int, made_at: datetime, due_at: datetime | None) -> Version:
    """One version of a planned key."""
    label = f"version/{plan.alias}/{number}"
    material: bytes | str
    if plan.spec is KeySpec.RSA_2048:
        material = (INPUTS / f"unsafe-rsa-{number}.pem").read_text(encoding="ascii")
    else:
        material = DRAW.bytes(f"{label}/material", plan.spec.material_bytes)
    return Version(random_id(entropy_of(label)), made_at, due_at, material)


def entropy_of(label: str) -> Callable[[int], bytes]:
    """Entropy for one id."""
    return lambda size: DRAW.bytes(label, size)


@dataclass(frozen=True)
class Row:
    """A row of records.csv, but for its id."""

    provider: str
    blob: str
    created_at: datetime
    key_id: str = ""
    context: str = ""
    owner: str = ""
    tenant: str = ""
    source: tuple[str, str, str] = ("", "", "")
    note: str = ""

    def cells(self, number: int) -> list[str]:
        """The cells, in the order of COLUMNS. CTyun's records are written in Beijing time."""
        zone = BEIJING if self.provider == CTYUN else UTC
        created = self.created_at.astimezone(zone).isoformat().replace("+00:00", "Z")
        return [
            f"rec-{number:05}",
            self.provider,
            self.key_id,
            self.blob,
            self.context,
            created,
            self.owner,
            self.tenant,
            *self.source,
            self.note,
        ]


@dataclass
class Writer:
    """Whoever writes the records: encrypts, and counts the encryptions of each version."""

    keys: dict[str, Key]
    encryptions: Counter[str] = field(default_factory=Counter)

    def seal(self, label: str, key: Key, at: int, *, context: str = "", size: int = 0) -> str:
        """A blob under the version with index `at`."""
        version = key.versions[at]
        plaintext = DRAW.bytes(f"{label}/plaintext", size or plaintext_bytes(label))
        assert isinstance(version.material, bytes)
        names = (key.key_id, version.version_id, key.spec, version.material)
        self.encryptions[version.version_id] += 1
        if key.provider == CTYUN:
            iv = DRAW.bytes(f"{label}/iv", ctyun.IV_BYTES)
            return ctyun.VersionCipher(*names).seal(plaintext, iv)
        iv = DRAW.bytes(f"{label}/iv", tencent.IV_BYTES)
        return tencent.VersionCipher(*names).seal(plaintext, context_text(context), iv)

    def row(self, label: str, alias: str, *, size: int = 0, note: str = "") -> Row:
        """A record as the key's owner would write it, at any time of the key's life."""
        key = self.keys[alias]
        # The later of two: there are more records every month.
        created = max(DRAW.moment(f"{label}/{n}", key.begin, key.until) for n in (1, 2))
        at = key.primary_at(created)
        if not DRAW.below(f"{label}/rewritten", 7):
            at = key.primary_at(DRAW.moment(f"{label}/again", created, key.until))
        tenant = f"t-{DRAW.below(f'{label}/tenant', 60) + 1:04}"
        context = key.context(label, tenant)
        return Row(
            provider=key.provider,
            blob=self.seal(label, key, at, context=context, size=size),
            created_at=created,
            key_id=key.key_id if DRAW.below(f"{label}/key id", 10) else "",
            context=context,
            owner=DRAW.one_of(f"{label}/owner", OWNERS),
            tenant=tenant,
            note=note or some_note(label),
        )


def plaintext_bytes(label: str) -> int:
    """Data keys of 32 bytes, most of all; small secrets; now and then a longer one."""
    kind = DRAW.below(f"{label}/kind", 20)
    if kind < 13:
        return 32
    size = DRAW.below(f"{label}/size", 40)
    return 8 + size if kind < 19 else 60 + 4 * size


def some_note(label: str) -> str:
    """Nothing, mostly."""
    if DRAW.below(f"{label}/noted", 25):
        return ""
    note: str = DRAW.one_of(f"{label}/note", NOTES)
    return note


def ordinary(writer: Writer) -> Iterator[Row]:
    """What is in order, but for the states of some keys."""
    for key in writer.keys.values():
        for number in range(key.records):
            yield writer.row(f"{key.alias}/{number}", key.alias)


def duplicates(writer: Writer) -> Iterator[Row]:
    """Equal blobs and contexts under several record ids."""
    for alias in ("orders-data", "sessions", "billing", "iot/devices"):
        for number in range(6):
            row = writer.row(f"{alias}/double/{number}", alias)
            yield row
            for copy in range(1 + number % 3):
                later = row.created_at + (END - row.created_at) * (copy + 1) // 5
                later = later.replace(microsecond=0)
                yield replace(row, created_at=later, note="copied with the order")


def cloud_made(_: Writer) -> Iterator[Row]:
    """The blobs in the clouds' public documentation, good ones and others."""
    found = json.loads((INPUTS / "public-blobs.json").read_text(encoding="utf-8"))
    for number, sample in enumerate(found):
        yield Row(
            sample["provider"],
            sample["blob"],
            DRAW.moment(f"public/{number}", BEGIN, END),
            context=sample["context"],
            owner="docs",
            note=f"from public documentation: {sample['source']}",
        )


# Altered and cut blobs


def flipped(blob: str, segment: int, at: int) -> str:
    """A Tencent blob with one bit of a segment flipped and the CRC repaired."""
    found = tencent.parse(blob)
    parts = [bytearray(part) for part in (found.s1, found.s2, found.s3)]
    parts[segment][at] ^= 0x10
    body = bytes(parts[2][: -tencent.CRC_BYTES])
    crc = zlib.crc32(body).to_bytes(tencent.CRC_BYTES, "little")
    return tencent.TencentBlob(bytes(parts[0]), bytes(parts[1]), body + crc).serialise()


def crc_broken(blob: str) -> str:
    """A Tencent blob with one bit of its ciphertext flipped and the CRC left as it was."""
    found = tencent.parse(blob)
    s3 = bytearray(found.s3)
    s3[20] ^= 1
    return tencent.TencentBlob(found.s1, found.s2, bytes(s3)).serialise()


def ctyun_flipped(blob: str, at: int) -> str:
    """A CTyun blob with one bit flipped."""
    data = bytearray(ctyun.parse(blob).data)
    data[at] ^= 0x10
    return base64.b64encode(data).decode()


def wrapped(blob: str) -> str:
    """A blob as a mail program breaks it into lines."""
    return "\n".join(blob[at : at + 76] for at in range(0, len(blob), 76))


def url_safe(blob: str) -> str:
    """A blob in the alphabet for URLs."""
    return blob.replace("+", "-").replace("/", "_")


ALTERED: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("sessions", "one bit of the ciphertext flipped, CRC repaired", lambda b: flipped(b, 2, 20)),
    ("sessions", "one bit of the IV flipped, CRC repaired", lambda b: flipped(b, 2, 3)),
    ("sessions", "one bit of the tag flipped", lambda b: flipped(b, 1, 7)),
    ("sessions", "one bit of the check value flipped", lambda b: flipped(b, 0, 50)),
    ("sessions", "one bit of the version id flipped", lambda b: flipped(b, 0, 30)),
    ("sessions", "one bit of the key id flipped", lambda b: flipped(b, 0, 10)),
    ("orders-data", "one bit flipped, CRC broken", crc_broken),
    ("customer-profiles", "one bit flipped, CRC broken", crc_broken),
    ("orders-data", "cut at 190 characters by a column that was too short", lambda b: b[:190]),
    ("orders-data", "cut at 100 characters", lambda b: b[:100]),
    ("payments-vault", "the last character is missing", lambda b: b[:-1]),
    ("sessions", "without the last segment", lambda b: b.rsplit("-k-", 1)[0]),
    ("sessions", "empty", lambda _: ""),
    ("sessions", "broken into lines", wrapped),
    ("sessions", "in lower case", str.lower),
    ("customer-profiles", "URL-safe alphabet", url_safe),
    ("billing", "one bit of the ciphertext flipped", lambda b: ctyun_flipped(b, 121)),
    ("billing", "one bit of the tag flipped", lambda b: ctyun_flipped(b, -1)),
    ("iot/devices", "one bit of the IV flipped", lambda b: ctyun_flipped(b, 110)),
    ("billing", "one bit of the mark KML1 flipped", lambda b: ctyun_flipped(b, 105)),
    ("billing", "one bit of the header flipped", lambda b: ctyun_flipped(b, 30)),
    ("billing", "cut at 128 characters", lambda b: b[:128]),
    ("documents", "cut at 160 characters", lambda b: b[:160]),
    ("documents", "broken into lines", wrapped),
)


def altered(writer: Writer) -> Iterator[Row]:
    """Truncated and corrupted blobs."""
    for number, (alias, note, change) in enumerate(ALTERED):
        row = writer.row(f"altered/{number}", alias, size=32, note=note)
        yield replace(row, blob=change(row.blob))


def wrong_contexts(writer: Writer) -> Iterator[Row]:
    """Records whose context is not the one that their blob was made under."""
    for number in range(8):
        row = writer.row(f"context/wrong/{number}", "orders-data", note="another tenant's context")
        yield replace(row, context='{"tenant":"t-9999"}')
    for number in range(4):
        row = writer.row(f"context/spelled/{number}", "customer-profiles", note="spelled otherwise")
        yield replace(row, context=json.dumps(json.loads(row.context), indent=1))
    for number in range(6):
        row = writer.row(f"context/lost/{number}", "orders-data", note="the context was lost")
        yield replace(row, context="")
    for number in range(3):
        row = writer.row(f"context/more/{number}", "sessions", note="made without a context")
        yield replace(row, context='{"app":"sessions"}')
    malformed = ('{"tenant":"t-0001"', '["tenant"]', '{"tenant":1}', '{"a":"1","a":"2"}', "t-0001")
    for number, text in enumerate(malformed):
        row = writer.row(f"context/malformed/{number}", "orders-data", note="malformed context")
        yield replace(row, context=text)


def strangers(writer: Writer) -> Iterator[Row]:
    """Blobs of other labs and clouds."""
    for number, alias in enumerate(("sessions", "documents")):
        key = writer.keys[alias]
        label = f"stranger/{number}"
        other = replace(key, versions=(replace(key.versions[0], material=DRAW.bytes(label, 32)),))
        row = Row(key.provider, "", DRAW.moment(label, key.begin, END), owner="unknown")
        yield replace(
            row,
            blob=Writer({}).seal(label, other, 0),
            note="from another lab, with the same ids and other material",
        )
        entropy = entropy_of(f"{label}/key")
        version = replace(other.versions[0], version_id=random_id(entropy_of(f"{label}/version")))
        unknown = replace(other, key_id=random_id(entropy), versions=(version,))
        blob = Writer({}).seal(f"{label}/key", unknown, 0)
        yield replace(row, blob=blob, key_id=unknown.key_id, note="of a key that never was here")
    row = writer.row("stranger/mixed", "billing", note="the provider is wrong")
    yield replace(row, provider=TENCENT)
    row = writer.row("stranger/aliyun", "sessions", note="the provider is none of the two")
    yield replace(row, provider="aliyun", blob=base64.b64encode(DRAW.bytes("aliyun", 80)).decode())


# Public-key ciphertext


def public_key(writer: Writer) -> Iterator[Row]:
    """OAEP ciphertexts that openssl made, with what must be said of them; and some mistakes."""
    key = writer.keys["exchange"]
    with (INPUTS / "unsafe-oaep.csv").open(encoding="ascii", newline="") as file:
        found = list(csv.DictReader(file))
    for number, sample in enumerate(found):
        version = key.versions[int(sample["version"]) - 1]
        label = f"oaep/{number}"
        algorithm = SHA_256 if sample["oaep_md"] == "sha256" else SHA_1
        note = "" if sample["oaep_md"] == sample["mgf1_md"] else "SHA-256 with MGF1-SHA-1"
        yield Row(
            CTYUN,
            sample["ciphertext"],
            DRAW.moment(label, version.made_at, END),
            key_id=key.key_id,
            owner=DRAW.one_of(f"{label}/owner", OWNERS),
            source=(key.key_id, version.version_id, algorithm),
            note=note,
        )
    yield from badly_described(key, found)


def badly_described(key: Key, found: list[dict[str, str]]) -> Iterator[Row]:
    """Public-key ciphertext whose record says too little, or something wrong."""
    first, second = (v.version_id for v in key.versions)
    mistakes = (
        ("source columns are missing", ("", "", "")),
        ("the algorithm is missing", (key.key_id, first, "")),
        ("the other algorithm", (key.key_id, first, SHA_1)),
        ("the other version", (key.key_id, second, SHA_256)),
        ("an algorithm that is not offered", (key.key_id, first, "RSAES_PKCS1_V1_5")),
        ("a version that never was", (key.key_id, key.key_id, SHA_256)),
    )
    for number, (note, source) in enumerate(mistakes):
        yield Row(
            CTYUN,
            found[number]["ciphertext"],
            DRAW.moment(f"oaep/mistake/{number}", key.versions[1].made_at, END),
            key_id=key.key_id,
            owner="partner-gateway",
            source=source,
            note=note,
        )


def symmetric_with_source(writer: Writer) -> Iterator[Row]:
    """Symmetric blobs with source columns: right ones, which do no harm, and wrong ones."""
    key = writer.keys["billing"]
    row = writer.row("source/same", "billing", note="names its own key as the source")
    yield replace(row, source=(key.key_id, "", ""))
    row = writer.row("source/other", "billing", note="names another source than its blob")
    yield replace(row, source=(writer.keys["documents"].key_id, "", ""))
    row = writer.row("source/algorithm", "billing", note="an algorithm for a symmetric blob")
    yield replace(row, source=("", "", SHA_256))


# Files


def seed_text(keys: Sequence[Key], encryptions: Counter[str]) -> str:
    """The seed file. Deleted keys have no material in it."""
    lines = [
        "# UNSAFE: these keys are public. A lab that they went into is marked unsafe for ever.",
        "# Made by sample_data/make.py.",
        "format: kmslab-seed-1",
        "keys:",
    ]
    for key in keys:
        lines += key_lines(key)
        for version in key.versions:
            lines += version_lines(key, version, encryptions[version.version_id])
    return "\n".join(lines) + "\n"


def key_lines(key: Key) -> Iterator[str]:
    """A key in the seed file, but for its versions."""
    yield f"  - provider: {key.provider}"
    yield f"    key_id: {key.key_id}"
    yield f"    alias: {key.alias}"
    yield f"    description: {json.dumps(key.description, ensure_ascii=False)}"
    yield f"    spec: {key.spec}"
    yield f"    state: {key.state}"
    yield f"    created_at: {timestamp(key.begin)}"
    if key.rotation_days is not None:
        last = key.versions[-1].due_at or key.begin
        yield f"    rotation_days: {key.rotation_days}"
        yield f"    next_rotation_at: {timestamp(last + key.rotation_days * DAY)}"
    if len(key.versions) > 1:
        last_version = key.versions[-1]
        yield f"    last_rotated_at: {timestamp(last_version.due_at or last_version.made_at)}"
    if key.deletion_at is not None:
        yield f"    deletion_at: {timestamp(key.deletion_at)}"
    yield "    versions:"


def version_lines(key: Key, version: Version, encryptions: int) -> Iterator[str]:
    """A version in the seed file."""
    yield f"      - version_id: {version.version_id}"
    yield f"        made_at: {timestamp(version.made_at)}"
    if version.due_at is not None:
        yield f"        due_at: {timestamp(version.due_at)}"
    if encryptions:
        yield f"        encryptions: {encryptions}"
    if key.state is KeyState.DELETED:
        return
    if isinstance(version.material, str):
        yield "        material: |"
        yield from (f"          {line}" for line in version.material.splitlines())
    else:
        yield f"        material: {base64.b64encode(version.material).decode()}"


def timestamp(moment: datetime) -> str:
    """A time in UTC, as in 2026-11-01T00:00:00Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def records_text(rows: Sequence[Row]) -> str:
    """The CSV file, oldest record first."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    ordered = sorted(rows, key=lambda row: (row.created_at, row.blob))
    for number, row in enumerate(ordered, start=1):
        writer.writerow(row.cells(number))
    return file.getvalue()


def write(folder: Path) -> None:
    """Write seed.yaml and records.csv into a folder."""
    keys = [made(plan) for plan in PLANS]
    writer = Writer({key.alias: key for key in keys})
    kinds = (
        ordinary,
        duplicates,
        cloud_made,
        altered,
        wrong_contexts,
        strangers,
        public_key,
        symmetric_with_source,
    )
    rows = [row for kind in kinds for row in kind(writer)]
    texts = {
        "seed.yaml": seed_text(keys, writer.encryptions),
        "records.csv": records_text(rows),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    write(FOLDER)
