"""Make the golden files of the two formats: `python tests/golden/formats/make_format_goldens.py`.

A format that was released never changes: this adds files for a new format id, and must give the
same bytes for the old ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kmslab.model import KeySpec
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

HERE = Path(__file__).parent
KEY_ID = "23e80852-1e38-11e9-b129-5cb9019b4b01"
VERSION_ID = "49ec76d7-cc4c-400e-9f19-f9001587ae0f"
CONTEXTS = ["", '{"app":"orders"}', '{"租户":"华东"}']
LENGTHS = [0, 1, 15, 16, 17, 32, 100]
MATERIAL = {KeySpec.AES_256: bytes(range(32)), KeySpec.SM4: bytes(range(16))}


def plaintext(size: int) -> bytes:
    return bytes((7 * i + size) % 256 for i in range(size))


def tencent_rows() -> list[dict[str, Any]]:
    rows = []
    for spec, material in MATERIAL.items():
        cipher = tencent.VersionCipher(KEY_ID, VERSION_ID, spec, material)
        for number, (size, context) in enumerate((n, c) for n in LENGTHS for c in CONTEXTS):
            data, iv = plaintext(size), bytes([number]) * tencent.IV_BYTES
            rows.append(
                {
                    "spec": spec.value,
                    "material": material.hex(),
                    "key_id": KEY_ID,
                    "key_version_id": VERSION_ID,
                    "context": context,
                    "iv": iv.hex(),
                    "plaintext": data.hex(),
                    "blob": cipher.seal(data, context, iv),
                }
            )
    return rows


def ctyun_rows() -> list[dict[str, Any]]:
    rows = []
    for spec, material in MATERIAL.items():
        cipher = ctyun.VersionCipher(KEY_ID, VERSION_ID, spec, material)
        for number, size in enumerate(LENGTHS):
            data, iv = plaintext(size), bytes([number]) * ctyun.IV_BYTES
            rows.append(
                {
                    "spec": spec.value,
                    "material": material.hex(),
                    "key_id": KEY_ID,
                    "key_version_id": VERSION_ID,
                    "iv": iv.hex(),
                    "plaintext": data.hex(),
                    "blob": cipher.seal(data, iv),
                }
            )
    return rows


if __name__ == "__main__":
    for name, rows in (("tencent-1", tencent_rows()), ("ctyun-1", ctyun_rows())):
        text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        (HERE / f"{name}.json").write_text(text, encoding="utf-8")
