"""What Tencent's calls about the service itself say of a lab."""

from __future__ import annotations

from provider_clouds import Cloud, code, response


def test_the_service_status_counts_the_keys(tencent: Cloud) -> None:
    tencent.create()
    tencent.create(kms=tencent.open(region="ap-shanghai"))
    status = response(tencent.kms.call("GetServiceStatus", {}))
    assert (status["ServiceEnabled"], status["InvalidType"], status["CmkUserCount"]) == (True, 1, 1)


def test_regions_are_those_that_have_keys(tencent: Cloud) -> None:
    assert response(tencent.kms.call("GetRegions", {}))["Regions"] == ["ap-guangzhou"]
    tencent.create(kms=tencent.open(region="ap-shanghai"))
    tencent.lab.ctyun(region="other").create_key()
    found = response(tencent.kms.call("GetRegions", {}))["Regions"]
    assert found == ["ap-guangzhou", "ap-shanghai"]


def test_algorithms_are_those_of_the_specs(tencent: Cloud) -> None:
    found = response(tencent.kms.call("ListAlgorithms", {}))
    assert [a["Algorithm"] for a in found["SymmetricAlgorithms"]] == ["AES_256", "SM4"]
    assert found["AsymmetricAlgorithms"] == [
        {"KeyUsage": "ASYMMETRIC_DECRYPT_RSA_2048", "Algorithm": "RSA_2048"}
    ]
    assert found["AsymmetricSignVerifyAlgorithms"] == []


def test_the_service_calls_need_their_rights(tencent: Cloud) -> None:
    tencent.lab.credentials.create("nobody", rights=["ListKeys"])
    kms = tencent.open(credential="nobody")
    for call in ("GetServiceStatus", "GetRegions", "ListAlgorithms"):
        assert code(kms.call(call, {})) == "UnauthorizedOperation"
