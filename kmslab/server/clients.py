"""How the vendors' own clients are pointed at a server."""

from __future__ import annotations

from kmslab.lab import REGIONS
from kmslab.model import CTYUN, TENCENT


def pointing(url: str, secret_id: str, secret_key: str) -> dict[str, list[str]]:
    """Three lines of Python for each SDK, by its package.

    >>> for line in pointing("http://127.0.0.1:8400", "KLID", "key")["ctyun_python_sdk_core"]:
    ...     print(line)
    from ctyun_python_sdk_core import ctyun_client, credential
    who, at = credential.Credential('KLID', 'key'), {'regionId': '60a39fca876e11ea91cf0242ac110002'}
    print(ctyun_client.CtyunClient().request('http://127.0.0.1:8400/v1/cmkManage/listKeys', \
'POST', headers=at, body={'pageSize': 10}, credential=who).json())
    """
    scheme, _, endpoint = url.partition("://")
    here = f"protocol={scheme!r}, endpoint={endpoint!r}"
    return {
        "tencentcloud-sdk-python-kms": [
            "from tencentcloud.common import credential; from tencentcloud.common.profile import"
            " client_profile, http_profile; from tencentcloud.kms.v20190118 import kms_client",
            f"here = client_profile.ClientProfile(httpProfile=http_profile.HttpProfile({here}))",
            f"client = kms_client.KmsClient(credential.Credential({secret_id!r}, {secret_key!r}),"
            f" {REGIONS[TENCENT]!r}, here)",
        ],
        "ctyun_python_sdk_core": [
            "from ctyun_python_sdk_core import ctyun_client, credential",
            f"who, at = credential.Credential({secret_id!r}, {secret_key!r}),"
            f" {{'regionId': {REGIONS[CTYUN]!r}}}",
            f"print(ctyun_client.CtyunClient().request('{url}/v1/cmkManage/listKeys',"
            " 'POST', headers=at, body={'pageSize': 10}, credential=who).json())",
        ],
    }
