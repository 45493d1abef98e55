"""CTyun's error codes: from the errors of kmslab, and back.

HTTP status, `code` and Chinese texts of the statuses are documented (seed 004), as are the codes
KMS.0101 to KMS.0126 (reference/ctyun.md section 6). CTyun publishes no code for a missing key, a
disabled one or a bad ciphertext: those that begin with `LAB.` are the lab's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kmslab import errors
from kmslab.errors import KmsError

BAD_REQUEST, UNAUTHORISED, UNAVAILABLE, FAILED = 400, 401, 404, 500

# Documented texts of the statuses (seed 004).
STATUS_MESSAGES: Mapping[int, str] = {
    BAD_REQUEST: "参数缺失或错误",
    UNAUTHORISED: "用户验证错误",
    UNAVAILABLE: "操作目标不可用",
    FAILED: "系统内部错误",
}


@dataclass(frozen=True, slots=True)
class Code:
    """An `errorCode` with its HTTP status, its message, and the error it stands for."""

    code: str
    status: int
    message: str
    error: type[KmsError]


# A parameter that is missing has a code of its own (reference/ctyun.md section 6).
_MISSING = {
    "cmkUuid": ("KMS.0102", "CmkUuid cannot be empty"),
    "aliasName": ("KMS.0103", "AliasName cannot be empty"),
    "keyVersionId": ("KMS.0105", "KeyVersionId cannot be empty"),
    "plaintext": ("KMS.0107", "Plaintext can notbe empty"),
    "ciphertextBlob": ("KMS.0108", "Ciphertextblob cannot be empty"),
    "sourceKeyId": ("KMS.0110", "Asymmetric encrypt need sourceuuid"),
    "sourceKeyVersionId": ("KMS.0111", "Asymmetric encrypt need sourceKeyVersion"),
    "destinationKeyId": ("KMS.0112", "DestinationUuid cannot be empty"),
    "algorithm": ("KMS.0114", "Algorithm cannot be empty"),
    "sourceEncryptionAlgorithm": ("KMS.0114", "Algorithm cannot be empty"),
    "wrappingAlgorithm": ("KMS.0114", "Algorithm cannot be empty"),
    "regionId": ("KMS.0115", "Regionid cannot be empty"),
    "enableAutomaticRotation": ("KMS.0116", "Enableautoatocrotatiom cannot be empty"),
    "rotationInterval": ("KMS.0118", "Rotationinterval cannot be empty"),
    "publicKeyBlob": ("KMS.0121", "KeySpec for publickey cannot be empty"),
    "wrappingKeySpec": ("KMS.0121", "KeySpec for publickey cannot be empty"),
    "pendingWindowInDays": ("KMS.0122", "Pendingwindowindays cannot be empty"),
    "keySpec": ("KMS.0126", "Keyspec cannot be empty"),
}

CODES = (
    Code("KMS.0101", BAD_REQUEST, "参数缺失", errors.MissingParameter),
    *(
        Code(code, BAD_REQUEST, message, errors.MissingParameter)
        for code, message in sorted(set(_MISSING.values()))
    ),
    Code("LAB.InvalidParameter", BAD_REQUEST, "参数缺失或错误", errors.InvalidRequest),
    Code("LAB.InvalidCiphertext", BAD_REQUEST, "参数缺失或错误", errors.InvalidCiphertext),
    Code("LAB.DecryptFailed", BAD_REQUEST, "参数缺失或错误", errors.DecryptFailed),
    Code("LAB.Unsupported", BAD_REQUEST, "参数缺失或错误", errors.Unsupported),
    Code("LAB.LimitReached", BAD_REQUEST, "参数缺失或错误", errors.LimitReached),
    Code("LAB.BalanceExhausted", BAD_REQUEST, "账户余额不足", errors.BalanceExhausted),
    Code("LAB.RequestTooLarge", BAD_REQUEST, "参数缺失或错误", errors.RequestTooLarge),
    Code("LAB.Unauthorized", UNAUTHORISED, "用户验证错误", errors.Unauthorized),
    Code("LAB.Unauthenticated", UNAUTHORISED, "用户验证错误", errors.Unauthenticated),
    Code("LAB.UnknownCredential", UNAUTHORISED, "用户验证错误", errors.UnknownCredential),
    Code("LAB.SignatureMismatch", UNAUTHORISED, "用户验证错误", errors.SignatureMismatch),
    Code("LAB.SignatureExpired", UNAUTHORISED, "用户验证错误", errors.SignatureExpired),
    Code("LAB.RequestReplayed", UNAUTHORISED, "用户验证错误", errors.RequestReplayed),
    Code("LAB.KeyNotFound", UNAVAILABLE, "操作目标不可用", errors.KeyNotFound),
    Code("LAB.UnknownAction", UNAVAILABLE, "操作目标不可用", errors.UnknownAction),
    Code("LAB.KeyUnavailable", UNAVAILABLE, "操作目标不可用", errors.KeyUnavailable),
    Code("LAB.Throttled", FAILED, "请求过于频繁", errors.Throttled),
    Code("LAB.InternalError", FAILED, "系统内部错误", errors.InternalError),
    # The seed's own sample of an error code; its meaning is not documented.
    Code("KMS.0514", FAILED, "系统内部错误", errors.InternalError),
)

_BY_CODE: Mapping[str, Code] = {code.code: code for code in CODES}
# Of several codes for one error the first speaks for it.
_BY_ERROR: Mapping[type[KmsError], Code] = {code.error: code for code in reversed(CODES)}


def code_of(error: KmsError, _action: str) -> str:
    """The `errorCode` that a call answers an error with.

    >>> code_of(errors.MissingParameter("", parameter="destinationKeyId"), "reEncrypt")
    'KMS.0112'
    """
    if error.code:
        return error.code
    if isinstance(error, errors.MissingParameter) and error.parameter in _MISSING:
        return _MISSING[error.parameter][0]
    if isinstance(error, errors.InvalidKeyId):
        return "LAB.KeyNotFound"
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind].code
    return "LAB.InternalError"


def status_of(code: str) -> int:
    """The HTTP status of an `errorCode`, which `code` repeats as text."""
    return _BY_CODE[code].status


def message_of(code: str) -> str:
    """The message of an `errorCode`."""
    return _BY_CODE[code].message


def error_for(code: str) -> KmsError:
    """The error that an `errorCode`, or a bare HTTP status, stands for; KeyError for another.

    >>> error_for("KMS.0514")
    InternalError('系统内部错误')
    """
    if code in _FOR_STATUS:
        code = _FOR_STATUS[code]
    found = _BY_CODE[code]
    error = found.error(found.message)
    error.code = code
    if isinstance(error, errors.MissingParameter):
        error.parameter = next((p for p, (c, _) in _MISSING.items() if c == code), "")
    return error


_FOR_STATUS: Mapping[str, str] = {
    "400": "LAB.InvalidParameter",
    "401": "LAB.Unauthorized",
    "404": "LAB.KeyNotFound",
    "500": "LAB.InternalError",
}

# What the status means where there is no code, or none that is known here.
_KINDS: Mapping[int, type[KmsError]] = {
    BAD_REQUEST: errors.InvalidRequest,
    UNAUTHORISED: errors.Unauthenticated,
    403: errors.Unauthorized,
    UNAVAILABLE: errors.KeyNotFound,
    408: errors.InternalError,
    429: errors.Throttled,
}

# Of the gateway before the service (reference/ctyun.md section 6, from public code).
_GATEWAY: Mapping[str, type[KmsError]] = {
    "CTAPI_10002": errors.UnknownCredential,
    "CTAPI_10009": errors.SignatureMismatch,
}


def error_answered(code: str, status: int, request_id: str) -> KmsError:
    """The error of an answer with this `errorCode`, "" for none, and this HTTP status or `code`.

    A status 404 without a code comes from whoever does not know the call at all. What the provider
    writes beside it is left out: it may repeat what was asked.

    >>> error_answered("KMS.0999", 500, "")
    InternalError('CTyun answered KMS.0999 with status 500')
    """
    if code in _BY_CODE:
        error = error_for(code)
    else:
        shown = code[:64] if code.replace(".", "").replace("_", "").isalnum() else ""
        # A gateway's 502, 503 and 504 pass as much as the service's 500.
        usual = errors.InternalError if status >= FAILED else KmsError
        kind = _GATEWAY.get(code) or _KINDS.get(status, usual)
        if status == UNAVAILABLE and not code:
            kind = errors.UnknownAction
        error = kind(f"CTyun answered {shown or 'no code'} with status {status}")
        error.code = shown or f"HTTP.{status}"
    error.request_id = request_id
    return error
