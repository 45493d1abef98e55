"""DataFrames of records: `import kmslab.frames` gives every DataFrame an accessor `df.kms`.

    import kmslab.frames as frames

    df = frames.read("orders.csv")
    inventory = df.kms.inspect(lab)
    inventory.kms.stale()

A frame of records has a column `ciphertext_blob`, and what else there is of `record_id`,
`provider`, `encryption_context`, `key_id`, `created_at`, `owner`, `source_key_id`,
`source_key_version_id` and `source_encryption_algorithm`. Every method gives a new frame or a
result, and leaves its frame as it is. No plaintext comes into any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import pandas as pd

from kmslab.analysis import counting, inventory, rotation
from kmslab.analysis.classify import Drop, Target
from kmslab.analysis.forecast import usual_verify
from kmslab.analysis.frame_columns import check_columns, check_known, flags
from kmslab.analysis.given import check_providers
from kmslab.analysis.verify import Verify
from kmslab.analysis.versions import versions as versions
from kmslab.analysis.versions import with_alias as with_alias
from kmslab.campaign.plan import Options, Plan
from kmslab.clock import Clock, SystemClock
from kmslab.context import Context
from kmslab.frames.altering import altered as altered
from kmslab.frames.planning import check_rates, named_key, plan_frame
from kmslab.frames.re_encrypting import re_encrypt_frame
from kmslab.frames.reading import from_records as from_records
from kmslab.frames.reading import parts as parts
from kmslab.frames.reading import read as read
from kmslab.frames.recording import Recording as Recording
from kmslab.frames.sample import History as History
from kmslab.frames.sample import history as history
from kmslab.lab import Lab
from kmslab.providers.base import KEEP, Keep, Providers

__all__ = [
    "History",
    "KmsAccessor",
    "Recording",
    "altered",
    "from_records",
    "history",
    "parts",
    "read",
    "versions",
    "with_alias",
]


@pd.api.extensions.register_dataframe_accessor("kms")
class KmsAccessor:
    """What a DataFrame of records can be asked. FrameError where it lacks what an answer needs."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def inspect(
        self, providers: Providers | None = None, *, now: datetime | None = None
    ) -> pd.DataFrame:
        """The inventory: a new frame with what the heads of the blobs say of each record.

        See `kmslab.analysis.inventory.inspect` for its columns. What the frame itself has by one
        of their names, such as `error` or `format`, is replaced: rename it before. Ages are counted
        to `now`: without it to the time of a lab's own clock, or the system's for a remote.

        >>> from kmslab import Lab
        >>> with Lab.in_memory() as lab:
        ...     kms = lab.tencent()
        ...     key = kms.create_key("orders")
        ...     df = pd.DataFrame({"ciphertext_blob": [kms.encrypt(key.key_id, b"secret")]})
        ...     _ = lab.rotate(key.key_id)
        ...     df.kms.inspect(lab)[["version_number", "stale"]].values.tolist()
        [[1, True]]
        """
        return inventory.inspect(self._frame, providers, now=now or _clock(providers).now())

    def census(self, providers: Providers | None = None) -> pd.DataFrame:
        """How many records are on which key version.

        Of a frame that was not inspected only the heads of the blobs are read, which is faster,
        and `providers` tell the numbers of versions. See `kmslab.analysis.counting.census`.
        """
        return counting.census(self._frame, providers)

    def stale(self) -> pd.DataFrame:
        """The records of an inventory that are not on the primary version of their key, the most
        stale first. Those of which that is not known are not among them; FrameError where that is
        all, since there was no lab to ask."""
        check_columns(self._frame, ["stale", "stale_days"])
        check_known(self._frame)
        stale = self._frame[flags(self._frame, "stale").fillna(value=False)]
        return stale.sort_values("stale_days", ascending=False, kind="stable")

    def exposure(self) -> pd.DataFrame:
        """Whose records of an inventory are stale, on which key, since when.

        See `kmslab.analysis.rotation.exposure`.
        """
        return rotation.exposure(self._frame)

    def plan(
        self,
        providers: Providers,
        *,
        to: str | None = None,
        provider: str | None = None,
        context: Context | Keep | Drop = KEEP,
        verify: str | None = None,
        rates: Mapping[str, float] | None = None,
        deep: bool = False,
        clock: Clock | None = None,
    ) -> Plan:
        """What re-encryption would do with each record: the Plan of `kmslab campaign plan`.

        `to` is the key that records go to, by id, or by an alias that it alone has (without it each
        record stays on its own); `provider` is that key's, where records cross over to it. `deep`
        opens every blob. Nothing is changed.
        `verify`, `rates` and `clock` are as for `re_encrypt`. CampaignError for another
        `context` where there is no column `encryption_context` for it; KeyNotFound for an alias
        that no key has, or several have; ValueError for a rate of a provider that is not there.
        """
        rates = _checked(providers, rates)
        return plan_frame(
            self._frame,
            providers,
            Target(key_id=named_key(providers, to, provider), context=context, provider=provider),
            options=Options(verify=_verify(providers, verify), rates=rates),
            deep=deep,
            clock=clock or _clock(providers),
        )

    def re_encrypt(
        self,
        providers: Providers,
        *,
        to: str | None = None,
        provider: str | None = None,
        context: Context | Keep | Drop = KEEP,
        verify: str | None = None,
        rates: Mapping[str, float] | None = None,
        clock: Clock | None = None,
    ) -> pd.DataFrame:
        """A new frame with a new blob for each record that `plan` would send.

        Where the frame has columns for them, provider, key, context and source_* move with the
        blob, as in a campaign. Each new blob is verified: `decrypt`, which labs do unless another
        is given, opens it, `answer`, which is usual for remotes, opens none, `sample:N` some.
        `rates` are in calls a second by provider; without one a lab is not held back, and a remote
        keeps its own. `clock` is waited by, and dates what is re-encrypted: without it a lab's own,
        or the system's for a remote.

        Beside them the new frame has `result` (re_encrypted, unchanged, failed, left), `outcome`
        and `reason`, which say why, and `re_encrypted_at`. Of an inventory, which is a frame with
        a column such as `key_known_by`, what the inspection said of the old blobs is left out:
        inspect the new frame. One bad record costs only itself, and keeps its blob. What `plan`
        refuses is refused here too, before anything is sent. There is no journal: to write back
        into a source, run a campaign.

        >>> from kmslab import Lab
        >>> with Lab.in_memory() as lab:
        ...     kms = lab.ctyun()
        ...     key = kms.create_key()
        ...     df = pd.DataFrame({"ciphertext_blob": [kms.encrypt(key.key_id, b"secret"), "cut"]})
        ...     _ = lab.rotate(key.key_id)
        ...     df.kms.re_encrypt(lab)["result"].tolist()
        ['re_encrypted', 'left']
        """
        rates = _checked(providers, rates)
        return re_encrypt_frame(
            self._frame,
            providers,
            Target(key_id=named_key(providers, to, provider), context=context, provider=provider),
            verify=Verify.parse(_verify(providers, verify)),
            rates=rates,
            clock=clock or _clock(providers),
        )


def _checked(providers: Providers, rates: Mapping[str, float] | None) -> dict[str, float]:
    check_providers(providers)
    found: Mapping[str, float] = {} if rates is None else rates
    check_rates(providers, found)
    return dict(found)


def _clock(providers: Providers | None) -> Clock:
    """The clock by which the keys of these providers rotate, as far as there is one to be had."""
    return providers.clock if isinstance(providers, Lab) else SystemClock()


def _verify(providers: Providers, given: str | None) -> str:
    return str(usual_verify(providers)) if given is None else given
