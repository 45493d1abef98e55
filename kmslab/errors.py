"""Every error that kmslab raises, in one tree.

KmslabError
├── KmsError                      a KMS's answer; has .request_id and .code
│   ├── InvalidRequest            a parameter is wrong; has .parameter
│   │   ├── MissingParameter
│   │   ├── UnknownParameter
│   │   ├── InvalidKeyId
│   │   ├── InvalidPlaintext
│   │   ├── InvalidAlias
│   │   ├── AliasInUse
│   │   ├── InvalidKeyUsage
│   │   ├── InvalidPendingWindow
│   │   ├── DuplicateKeyId
│   │   ├── UnreadableMaterial    imported material cannot be unwrapped
│   │   ├── MaterialMismatch      imported material is not what was there before
│   │   ├── UnknownAction
│   │   ├── UnknownVersion        of the API
│   │   ├── UnknownRegion
│   │   ├── RequestTooLarge
│   │   └── UnsupportedProtocol   neither GET nor POST
│   ├── InvalidCiphertext         one opaque refusal, whatever was wrong with the blob
│   ├── DecryptFailed             the same for public-key ciphertext
│   ├── KeyNotFound
│   ├── KeyUnavailable            the key's state forbids it; has .key_id
│   │   ├── KeyDisabled
│   │   ├── KeyArchived
│   │   ├── KeyPendingDeletion
│   │   ├── KeyPendingImport
│   │   ├── KeyStateUnsupported   some other call needs another state
│   │   ├── KeyNotDisabled        disable it first
│   │   └── KeyNotPendingDeletion
│   ├── KeyInUse                  a resource of a cloud product is bound to the key
│   ├── BindingNotFound
│   ├── ImportTokenExpired
│   ├── Unauthorized
│   ├── Unauthenticated           it is not shown who calls
│   │   ├── UnknownCredential
│   │   ├── UnknownToken
│   │   ├── SignatureMismatch
│   │   └── SignatureExpired      too old, or too far ahead
│   │       └── RequestReplayed
│   ├── BalanceExhausted
│   ├── Unsupported
│   │   ├── NotExternal
│   │   ├── ExternalCannotRotate
│   │   └── RotationUnsupported
│   ├── BadAnswer                 it contradicts itself, or what was asked
│   ├── LimitReached
│   │   └── EncryptionLimitReached
│   └── Retryable                 the same call may succeed later
│       ├── Throttled             has .retry_after, in seconds
│       │   └── RotatedRecently
│       ├── InternalError
│       └── Unreachable           no answer came; has .endpoint
├── LabError                      a lab cannot be made, opened or used
│   ├── LabNotFound
│   ├── LabExists
│   ├── LabPermissions
│   ├── RootKeyError
│   ├── TamperedLab
│   ├── LabRolledBack
│   ├── SchemaMismatch
│   ├── LabBusy
│   ├── LabUnreachable            its database does not answer
│   ├── LabUncertain              a change may have been made or not
│   ├── LabClosed
│   ├── SettingError
│   ├── CredentialError
│   ├── BundleError
│   └── SeedError
├── FormatError (ValueError)      a text that is not what it should be; has .offset
│   ├── ContextError
│   ├── FilterError               a filter of the terminal explorer
│   └── DatabaseUrlError          no URL of a database, or a password in one
├── SourceError                   records cannot be read or written; has .source and .row
│   ├── SourceChanged             it is not what it was any more
│   └── SourceBusy                another campaign is at work on it
├── ProfileError                  a remote is not described well enough to be called
├── FrameError (ValueError)       a DataFrame is not what it should be; has .column
└── CampaignError                 a campaign cannot be planned, run, resumed or undone
    ├── CampaignNotFound
    ├── CampaignState             it is not at the point where this can be done
    ├── CampaignInterrupted       stopped on the way, and can be resumed; has .campaign_id
    ├── PlanOutdated              keys or source have changed since the plan was made
    ├── RetireRefused             something is left on the key or version
    └── StateError                the state folder cannot be used
        ├── JournalExists         another campaign has this id
        └── ShardDamaged          what a worker has written cannot be read

An error names what was wrong, where, and what to do. None holds key or plaintext bytes.
"""

from __future__ import annotations


class KmslabError(Exception):
    """The root of the tree.

    >>> issubclass(InvalidCiphertext, KmslabError)
    True
    """


class KmsError(KmslabError):
    """A KMS refused a call. `request_id` is the id of the call, as in the provider's answer.

    `code` is the provider's own code where the error was made from one, as a fault's is.
    """

    request_id: str = ""
    code: str = ""


class InvalidRequest(KmsError):
    """A parameter is missing, unknown, ill-typed or out of bounds; `parameter` names it."""

    def __init__(self, message: str, *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class MissingParameter(InvalidRequest):
    """A required parameter is not there."""


class UnknownParameter(InvalidRequest):
    """A parameter that the call does not have, or has in another place."""


class InvalidKeyId(InvalidRequest):
    """A key id that is not a lower-case UUID."""


class InvalidPlaintext(InvalidRequest):
    """A plaintext that is not base64, or longer than the provider takes."""


class InvalidAlias(InvalidRequest):
    """An alias with letters or a length that the provider does not take."""


class AliasInUse(InvalidRequest):
    """An alias that another key of the region has."""


class InvalidKeyUsage(InvalidRequest):
    """A key that is not made for this call: a symmetric one where a pair is needed, or back."""


class InvalidPendingWindow(InvalidRequest):
    """A deletion window outside 7 to 30 days."""


class DuplicateKeyId(InvalidRequest):
    """The same key id twice in one list."""


class UnreadableMaterial(InvalidRequest):
    """Wrapped key material that does not open, or has the wrong length."""


class MaterialMismatch(InvalidRequest):
    """Imported material other than what the key had before."""


class UnknownAction(InvalidRequest):
    """A call that the provider does not have."""


class UnknownVersion(InvalidRequest):
    """A version of the API that the provider does not have."""


class UnknownRegion(InvalidRequest):
    """A region that this Kms is not in."""


class RequestTooLarge(InvalidRequest):
    """A request of more bytes than the provider takes."""


class UnsupportedProtocol(InvalidRequest):
    """A method of HTTP that the provider does not take."""


class InvalidCiphertext(KmsError):
    """A blob that does not open: malformed, foreign, cut, altered, or under another context.

    Which of these it was is not said. `Lab.explain` tells the owner of the lab more.
    """


class DecryptFailed(KmsError):
    """A public-key ciphertext that does not open; which part was wrong is not said."""


class KeyNotFound(KmsError):
    """No key (or version) of this id in this region."""


class KeyUnavailable(KmsError):
    """The key is there, and its state forbids the call; `key_id` names it."""

    def __init__(self, message: str, *, key_id: str = "") -> None:
        super().__init__(message)
        self.key_id = key_id


class KeyDisabled(KeyUnavailable):
    """The key is disabled."""


class KeyArchived(KeyUnavailable):
    """The key is archived: it decrypts, and does not encrypt."""


class KeyPendingDeletion(KeyUnavailable):
    """The key is scheduled for deletion."""


class KeyPendingImport(KeyUnavailable):
    """The key has no material yet, or no longer."""


class KeyStateUnsupported(KeyUnavailable):
    """The call needs the key to be in another state."""


class KeyNotDisabled(KeyUnavailable):
    """The key must be disabled before its deletion is scheduled."""


class KeyNotPendingDeletion(KeyUnavailable):
    """There is no scheduled deletion to cancel."""


class KeyInUse(KmsError):
    """A resource of a cloud product is bound to the key, so it must stay as it is."""


class BindingNotFound(KmsError):
    """The key is not bound to this resource."""


class ImportTokenExpired(KmsError):
    """The import token is older than 24 hours."""


class Unauthorized(KmsError):
    """The credential has no right to this call on this key."""


class Unauthenticated(KmsError):
    """A request without a signature that can be checked."""


class UnknownCredential(Unauthenticated):
    """A request in the name of a credential that is not there, or is revoked."""


class UnknownToken(Unauthenticated):
    """A request with a token of a temporary credential that is not there."""


class SignatureMismatch(Unauthenticated):
    """A signature that is not the one of this request under its credential's secret key."""


class SignatureExpired(Unauthenticated):
    """A signature whose time is too far from the provider's."""


class RequestReplayed(SignatureExpired):
    """A request that was made before: its id or nonce is used up."""


class BalanceExhausted(KmsError):
    """The account's balance is not above 0."""


class Unsupported(KmsError):
    """A call, an algorithm or a kind of key that is not offered."""


class NotExternal(Unsupported):
    """The call is for keys with imported material."""


class ExternalCannotRotate(Unsupported):
    """A key with imported material does not rotate."""


class RotationUnsupported(Unsupported):
    """This key does not rotate: its pair has no primary version, or rotation is off."""


class LimitReached(KmsError):
    """A quota is used up."""


class EncryptionLimitReached(LimitReached):
    """A key version has made 2^32 ciphertexts. Rotate the key."""


class Retryable(KmsError):
    """The same call may succeed later."""


class Throttled(Retryable):
    """More calls than the limit allows; `retry_after` is the wait in seconds."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RotatedRecently(Throttled):
    """A key is rotated on demand at most once in 24 hours."""


class InternalError(Retryable):
    """The provider failed."""


class Unreachable(Retryable):
    """No answer came, or none of a KMS; `endpoint` was asked. What was asked may have been done."""

    code = "Unreachable"  # no provider says so of itself, so it is none of theirs

    def __init__(self, message: str, *, endpoint: str = "") -> None:
        super().__init__(message)
        self.endpoint = endpoint


class BadAnswer(KmsError):
    """A provider's answer contradicts itself, or what was asked; nothing of it was used."""

    code = "BadAnswer"  # no provider says so of itself, so it is none of theirs


class LabError(KmslabError):
    """A lab cannot be made, opened or used."""


class LabNotFound(LabError):
    """There is no lab at this path or URL."""


class LabExists(LabError):
    """There is something at this path, or a lab at this URL, already."""


class LabPermissions(LabError):
    """A file of the lab can be read by others, is a link, or belongs to somebody else."""


class RootKeyError(LabError):
    """The root key or passphrase is missing, malformed, or not this lab's."""


class TamperedLab(LabError):
    """Something in the lab is not what the lab wrote there."""


class LabRolledBack(LabError):
    """The lab is older than the generation that was expected."""


class SchemaMismatch(LabError):
    """The lab was written by another version of kmslab."""


class LabBusy(LabError):
    """Another process holds the lab for too long."""


class LabUnreachable(LabError):
    """The lab's database does not answer. Nothing was changed; the next call connects again."""


class LabUncertain(LabError):
    """The connection was lost while a change was being committed: it may have been made or not.

    The next call connects again, and sees which it was.
    """


class LabClosed(LabError):
    """The lab has been closed."""


class SettingError(LabError):
    """A setting or fault that does not exist, or cannot have this value."""


class CredentialError(LabError):
    """A credential or right that does not exist or cannot be made."""


class BundleError(LabError):
    """A bundle that cannot be read, opened or taken in."""


class SeedError(LabError):
    """A seed file that cannot be read or taken in."""


class FormatError(KmslabError, ValueError):
    """A text is not what it should be; `offset` is where, in bytes, if known."""

    def __init__(self, message: str, *, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class ContextError(FormatError):
    """An encryption context that is not a JSON object of strings."""


class FilterError(FormatError):
    """A text is no filter of records; `offset` is where, in characters from 0."""


class DatabaseUrlError(FormatError):
    """A text is no URL of a database, or holds what must not be stored with it."""


class SourceError(KmslabError):
    """Records cannot be read or written; `source` names them, `row` the row (from 1) if one did."""

    def __init__(self, message: str, *, source: str = "", row: int | None = None) -> None:
        super().__init__(message)
        self.source = source
        self.row = row


class SourceChanged(SourceError):
    """A source is not what it was when it was read; it has been left as it is."""


class SourceBusy(SourceError):
    """Another campaign is at work on the source."""


class ProfileError(KmslabError):
    """A remote cannot be called: its profile, its credentials or what is installed lacks something,
    or holds what it may not."""


class FrameError(KmslabError, ValueError):
    """A DataFrame lacks a column, or one holds something else; `column` names it."""

    def __init__(self, message: str, *, column: str = "") -> None:
        super().__init__(message)
        self.column = column


class CampaignError(KmslabError):
    """A campaign cannot be planned, run, resumed or undone."""


class CampaignNotFound(CampaignError):
    """There is no campaign of this id in the state folder."""


class CampaignState(CampaignError):
    """The campaign is not at the point where this can be done: unfinished, undone or closed."""


class CampaignInterrupted(CampaignError):
    """A campaign was stopped on the way; what is done is kept, and `campaign_id` can be resumed.

    `error` is what stopped it: the provider's answer, or None where somebody asked it to stop.
    """

    def __init__(
        self, message: str, *, campaign_id: str = "", error: KmsError | None = None
    ) -> None:
        super().__init__(message)
        self.campaign_id = campaign_id
        self.error = error


class PlanOutdated(CampaignError):
    """Keys or source are not what they were when the plan was made. Plan again."""


class RetireRefused(CampaignError):
    """Something is left on the key or version that was to be retired, or a hold stands."""


class StateError(CampaignError):
    """The state folder, or a file in it, cannot be used."""


class ShardDamaged(StateError):
    """What a worker of a campaign has written for a task cannot be read."""


class JournalExists(StateError):
    """A campaign of this id has a journal, which is left as it is. Take another id."""


class EncryptionCountWarning(UserWarning):
    """A key version has made 2^31 ciphertexts, half of what it may. Rotate the key."""
