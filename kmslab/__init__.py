"""kmslab: a strict local KMS for Tencent Cloud and CTyun, and what it takes to re-encrypt.

    from kmslab import Lab, inspect

Names are loaded when they are first used, so that `import kmslab` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmslab.clock import ManualClock, SystemClock
    from kmslab.errors import (
        InvalidCiphertext,
        KeyNotFound,
        KmsError,
        KmslabError,
        LabError,
        Retryable,
    )
    from kmslab.inspection import Inspection, inspect
    from kmslab.lab import Lab
    from kmslab.model import Key, KeySpec, KeyVersion, Record, ReEncryptResult
    from kmslab.providers.transfer import same_plaintext_many, transfer_many
    from kmslab.remotes import connect
    from kmslab.secret import Plaintext

_HOMES = {
    "Inspection": "inspection",
    "InvalidCiphertext": "errors",
    "Key": "model",
    "KeyNotFound": "errors",
    "KeySpec": "model",
    "KeyVersion": "model",
    "KmsError": "errors",
    "KmslabError": "errors",
    "Lab": "lab",
    "LabError": "errors",
    "ManualClock": "clock",
    "Plaintext": "secret",
    "ReEncryptResult": "model",
    "Record": "model",
    "Retryable": "errors",
    "SystemClock": "clock",
    "connect": "remotes",
    "inspect": "inspection",
    "same_plaintext_many": "providers.transfer",
    "transfer_many": "providers.transfer",
}

__all__ = [
    "Inspection",
    "InvalidCiphertext",
    "Key",
    "KeyNotFound",
    "KeySpec",
    "KeyVersion",
    "KmsError",
    "KmslabError",
    "Lab",
    "LabError",
    "ManualClock",
    "Plaintext",
    "ReEncryptResult",
    "Record",
    "Retryable",
    "SystemClock",
    "connect",
    "inspect",
    "same_plaintext_many",
    "transfer_many",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kmslab' has no attribute {name!r}")
    return getattr(import_module(f"kmslab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
