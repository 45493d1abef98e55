"""Tencent Cloud's error codes: from the errors of kmslab, and back.

Codes and Chinese messages of ReEncrypt are documented (seeds 000 and 001); the other codes are
those of reference/tencent.md sections 1 and 6, and which error has which code there is inferred
unless docs/semantics.md says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kmslab import errors
from kmslab.errors import KmsError


@dataclass(frozen=True, slots=True)
class Code:
    """A code with its messages in both languages of the API, and the error it stands for."""

    code: str
    chinese: str
    english: str
    error: type[KmsError]


CODES = (
    Code("InternalError", "内部错误。", "Internal error.", errors.InternalError),
    Code("InvalidParameter", "参数错误。", "Incorrect parameter.", errors.InvalidRequest),
    Code(
        "InvalidParameterValue.InvalidCiphertext",
        "密文格式错误。",
        "The ciphertext is in incorrect format.",
        errors.InvalidCiphertext,
    ),
    Code(
        "InvalidParameterValue.InvalidKeyId", "KeyId不合法。", "Invalid KeyId.", errors.InvalidKeyId
    ),
    Code(
        "ResourceUnavailable.CmkDisabled",
        "CMK已被禁用。",
        "The CMK has been disabled.",
        errors.KeyDisabled,
    ),
    Code(
        "ResourceUnavailable.CmkNotFound",
        "CMK不存在。",
        "The CMK does not exist.",
        errors.KeyNotFound,
    ),
    Code("UnauthorizedOperation", "未授权操作。", "Unauthorized operation.", errors.Unauthorized),
    Code(
        "ResourceUnavailable.CmkArchived",
        "CMK已归档。",
        "The CMK is archived.",
        errors.KeyArchived,
    ),
    Code(
        "ResourceUnavailable.CmkStateNotSupport",
        "CMK 状态不支持该操作。",
        "The CMK state does not support this operation.",
        errors.KeyStateUnsupported,
    ),
    Code(
        "ResourceUnavailable.CmkShouldBeDisabled",
        "CMK 应先被禁用。",
        "The CMK should be disabled first.",
        errors.KeyNotDisabled,
    ),
    Code(
        "ResourceUnavailable.CmkNotPendingDelete",
        "CMK 不在计划删除状态。",
        "The CMK is not pending deletion.",
        errors.KeyNotPendingDeletion,
    ),
    Code(
        "FailedOperation.CmkUsedByCloudProduct",
        "CMK正在被云产品使用。",
        "The CMK is being used by a Tencent Cloud product.",
        errors.KeyInUse,
    ),
    Code(
        "ResourceUnavailable.CloudResourceBindingNotFound",
        "CMK 和云资源的绑定关系不存在。",
        "The CMK is not bound with the Tencent Cloud resource.",
        errors.BindingNotFound,
    ),
    Code(
        "ResourceUnavailable.TokenExpired",
        "导入令牌已过期。",
        "The import token has expired.",
        errors.ImportTokenExpired,
    ),
    Code(
        "InvalidParameterValue.InvalidPlaintext",
        "明文不合法。",
        "Invalid plaintext.",
        errors.InvalidPlaintext,
    ),
    Code(
        "InvalidParameterValue.InvalidAlias",
        "别名格式错误。",
        "Invalid alias.",
        errors.InvalidAlias,
    ),
    Code(
        "InvalidParameterValue.AliasAlreadyExists",
        "别名已经存在。",
        "The alias already exists.",
        errors.AliasInUse,
    ),
    Code(
        "InvalidParameterValue.InvalidKeyUsage",
        "KeyUsage 参数错误。",
        "Incorrect KeyUsage.",
        errors.InvalidKeyUsage,
    ),
    Code(
        "InvalidParameterValue.DuplicatedKeyId",
        "KeyId 重复。",
        "Duplicated KeyId.",
        errors.DuplicateKeyId,
    ),
    Code(
        "InvalidParameter.InvalidPendingWindowInDays",
        "计划删除时间不合法。",
        "Invalid PendingWindowInDays.",
        errors.InvalidPendingWindow,
    ),
    Code(
        "InvalidParameter.DecryptMaterialError",
        "密钥材料解密错误。",
        "The key material cannot be decrypted.",
        errors.UnreadableMaterial,
    ),
    Code(
        "InvalidParameterValue.MaterialNotMatch",
        "密钥材料与之前导入的不匹配。",
        "The key material does not match what was imported before.",
        errors.MaterialMismatch,
    ),
    Code("FailedOperation.DecryptError", "解密失败。", "Decryption failed.", errors.DecryptFailed),
    Code(
        "UnsupportedOperation.NotExternalCmk",
        "CMK 不是外部导入的。",
        "Not an external CMK.",
        errors.NotExternal,
    ),
    Code(
        "UnsupportedOperation.ExternalCmkCanNotRotate",
        "外部导入的 CMK 不支持轮换。",
        "An external CMK cannot be rotated.",
        errors.ExternalCannotRotate,
    ),
    Code(
        "UnsupportedOperation.RotateNotSupported",
        "CMK 不支持轮换。",
        "The CMK cannot be rotated.",
        errors.RotationUnsupported,
    ),
    Code("UnsupportedOperation", "操作不支持。", "Unsupported operation.", errors.Unsupported),
    Code(
        "LimitExceeded",
        "超过配额限制。",
        "The quota limit has been exceeded.",
        errors.LimitReached,
    ),
    Code(
        "RequestLimitExceeded",
        "请求的次数超过了频率限制。",
        "Too many requests.",
        errors.Throttled,
    ),
    Code(
        "RequestLimitExceeded.RotateRateLimited",
        "轮换的次数超过了频率限制。",
        "The CMK was rotated too recently.",
        errors.RotatedRecently,
    ),
    Code("MissingParameter", "缺少参数。", "A parameter is missing.", errors.MissingParameter),
    Code("UnknownParameter", "未知参数。", "An unknown parameter.", errors.UnknownParameter),
    Code("InvalidAction", "操作不存在。", "The action does not exist.", errors.UnknownAction),
    Code("NoSuchVersion", "接口版本不存在。", "No such API version.", errors.UnknownVersion),
    Code("UnsupportedRegion", "不支持该地域。", "Unsupported region.", errors.UnknownRegion),
    Code(
        "RequestSizeLimitExceeded",
        "请求包超过限制大小。",
        "The request is too large.",
        errors.RequestTooLarge,
    ),
    Code(
        "UnsupportedProtocol",
        "HTTP(S) 请求协议错误，只支持 GET 和 POST 请求。",
        "Unsupported protocol: only GET and POST requests are supported.",
        errors.UnsupportedProtocol,
    ),
    Code(
        "AuthFailure.InvalidAuthorization",
        "请求头部的 Authorization 不符合标准。",
        "The Authorization header is invalid.",
        errors.Unauthenticated,
    ),
    Code(
        "AuthFailure.SecretIdNotFound",
        "密钥不存在。",
        "The SecretId does not exist.",
        errors.UnknownCredential,
    ),
    Code("AuthFailure.TokenFailure", "Token 错误。", "Invalid token.", errors.UnknownToken),
    Code(
        "AuthFailure.SignatureFailure",
        "签名错误。",
        "Incorrect signature.",
        errors.SignatureMismatch,
    ),
    Code(
        "AuthFailure.SignatureExpire",
        "签名过期。",
        "The signature has expired.",
        errors.SignatureExpired,
    ),
)

_BY_CODE: Mapping[str, Code] = {code.code: code for code in CODES}
_BY_ERROR: Mapping[type[KmsError], Code] = {code.error: code for code in CODES}

# An archived key cannot be a destination, and ReEncrypt's list has no code for archived; a key
# that waits for deletion or for material has no code of its own in any list (inferred).
_AS_DISABLED = (errors.KeyPendingDeletion, errors.KeyPendingImport)
_STATE_CALLS = frozenset(
    {"EnableKeyRotation", "GetPublicKey", "AsymmetricRsaDecrypt", "ArchiveKey", "EnableKey"}
)


def code_of(error: KmsError, action: str) -> str:
    """The code that `action` answers an error with.

    >>> code_of(errors.KeyPendingDeletion(""), "Encrypt")
    'ResourceUnavailable.CmkDisabled'
    """
    if error.code:
        return error.code
    if isinstance(error, errors.KeyUnavailable) and action in _STATE_CALLS:
        return "ResourceUnavailable.CmkStateNotSupport"
    if isinstance(error, _AS_DISABLED):
        return "ResourceUnavailable.CmkDisabled"
    if isinstance(error, errors.KeyArchived) and action == "ReEncrypt":
        return "ResourceUnavailable.CmkDisabled"
    for kind in type(error).__mro__:
        if kind in _BY_ERROR:
            return _BY_ERROR[kind].code
    return "InternalError"


def message_of(code: str, language: str) -> str:
    """The message of a code, in `zh-CN` or `en-US`."""
    found = _BY_CODE[code]
    return found.english if language == "en-US" else found.chinese


def error_for(code: str) -> KmsError:
    """The error that a code stands for; KeyError where Tencent Cloud has no such code.

    >>> error_for("ResourceUnavailable.CmkDisabled")
    KeyDisabled('The CMK has been disabled.')
    """
    found = _BY_CODE[code]
    error = found.error(found.english)
    error.code = code
    return error


# What the first part of a code means where the whole is not known here.
_FAMILIES: Mapping[str, type[KmsError]] = {
    "AuthFailure": errors.Unauthenticated,
    "InternalError": errors.InternalError,
    "InvalidParameter": errors.InvalidRequest,
    "InvalidParameterValue": errors.InvalidRequest,
    "LimitExceeded": errors.LimitReached,
    "MissingParameter": errors.MissingParameter,
    "RequestLimitExceeded": errors.Throttled,
    "ResourceNotFound": errors.KeyNotFound,
    "ResourceUnavailable": errors.KeyUnavailable,
    "ServiceUnavailable": errors.InternalError,
    "UnauthorizedOperation": errors.Unauthorized,
    "UnknownParameter": errors.UnknownParameter,
    "UnsupportedOperation": errors.Unsupported,
}


# Codes that mean another thing than their first part.
_UNLIKE: Mapping[str, type[KmsError]] = {
    "AuthFailure.UnauthorizedOperation": errors.Unauthorized,
    "UnsupportedOperation.ServiceTemporaryUnavailable": errors.InternalError,
}


def error_answered(code: str, request_id: str) -> KmsError:
    """The error of an answer with this code: by the whole of it, else by its first part.

    What the provider writes beside it is left out: it may repeat what was asked.

    >>> error_answered("RequestLimitExceeded.UinLimitExceeded", "")
    Throttled('Tencent Cloud answered RequestLimitExceeded.UinLimitExceeded')
    """
    if code in _BY_CODE:
        error = error_for(code)
    else:
        shown = code[:100] if code.replace(".", "").isalnum() else "a code that is none"
        kind = _UNLIKE.get(code) or _FAMILIES.get(code.partition(".")[0], KmsError)
        error = kind(f"Tencent Cloud answered {shown}")
        error.code = shown
    error.request_id = request_id
    return error
