"""Who calls: their secret keys, and their Kms of each region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from kmslab.errors import CredentialError, UnknownCredential, UnknownRegion
from kmslab.lab import REGIONS, Lab
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.ctyun.service import CtyunKms
from kmslab.providers.tencent.service import TencentKms

K = TypeVar("K", TencentKms, CtyunKms)


@dataclass(frozen=True, slots=True)
class Caller(Generic[K]):
    """A credential in one region of one provider."""

    name: str
    kms: K


class Callers:
    """The callers of a lab. `regions` are further regions that each provider is to have; the
    lab's own and those of its keys are known."""

    def __init__(self, lab: Lab, *, regions: Mapping[str, Iterable[str]], rate_limit: bool) -> None:
        self._lab = lab
        self._regions = {p: {own, *regions.get(p, ())} for p, own in REGIONS.items()}
        self._rate_limit = rate_limit
        self._tencent: dict[tuple[str, str], Caller[TencentKms]] = {}
        self._ctyun: dict[tuple[str, str], Caller[CtyunKms]] = {}

    def secret_key(self, secret_id: str) -> bytes:
        """The secret key of a credential that is in force now, else UnknownCredential."""
        try:
            return self._lab.credentials.secret_key(secret_id).expose()
        except CredentialError:
            raise UnknownCredential("there is no such credential in force") from None

    def known(self, secret_id: str) -> str:
        """The name of a credential, in force or revoked, that a request names without proving it;
        "" where the lab never had it."""
        return next((c.name for c in self._lab.credentials.list() if c.secret_id == secret_id), "")

    def tencent(self, secret_id: str, region: str) -> Caller[TencentKms]:
        """A caller of Tencent's; UnknownRegion where the lab has no such region."""
        found = self._tencent.get((secret_id, region))
        if found is None:
            self._check_region(TENCENT, region)
            kms = self._lab.tencent(
                region=region, credential=secret_id, rate_limit=self._rate_limit
            )
            found = self._tencent[secret_id, region] = Caller(self._name(secret_id), kms)
        return found

    def ctyun(self, secret_id: str, region: str) -> Caller[CtyunKms]:
        """A caller of CTyun's; UnknownRegion where the lab has no such region."""
        found = self._ctyun.get((secret_id, region))
        if found is None:
            self._check_region(CTYUN, region)
            kms = self._lab.ctyun(region=region, credential=secret_id, rate_limit=self._rate_limit)
            found = self._ctyun[secret_id, region] = Caller(self._name(secret_id), kms)
        return found

    def _check_region(self, provider: str, region: str) -> None:
        known = self._regions[provider]
        if region not in known:
            known |= {key.region for key in self._lab.keys() if key.provider == provider}
        if region not in known:
            raise UnknownRegion("the lab has no such region", parameter="Region")

    def _name(self, secret_id: str) -> str:
        return next(c.name for c in self._lab.credentials.list() if c.secret_id == secret_id)
