"""What becomes of a record, as a sign and a word: the grid shows it, and the filter takes it."""

from __future__ import annotations

from typing import Final

from kmslab.analysis.classify import Outcome, Verdict
from kmslab.tui.judging import NO_ANSWER

_OUTCOMES: Final = {
    Outcome.STALE: "○ stale",
    Outcome.MOVE: "→ move",
    Outcome.CURRENT: "● current",
    Outcome.MAY_CHANGE: "? may change",
    Outcome.FOREIGN: "◇ foreign",
    Outcome.BLOCKED: "✗ blocked",
    Outcome.INVALID: "! invalid",
    Outcome.NEEDS_CONTEXT: "! no context",
    Outcome.NEEDS_PUBLIC_KEY_INFO: "! no key info",
}

_BLOCKED: Final = {
    "key disabled": "✗ disabled",
    "key archived": "✗ archived",
    "key pending-import": "✗ no material",
    "key pending-deletion": "✗ deleting",
    "key deleted": "✗ deleted",
    "key missing": "✗ no key",
    "key version missing": "✗ no version",
    "no Kms of this provider": "✗ no provider",
}

_UNANSWERED: Final = "✗ no answer"

LEGEND: Final = (
    ("○ stale", "not on the primary version of its key: a campaign gives it a new blob"),
    ("→ move", "public-key ciphertext, which becomes a blob of a symmetric key"),
    ("● current", "on the primary version already: nothing is to be done"),
    ("? may change", "a cloud's own blob: only the cloud's answer tells"),
    ("◇ foreign", "a cloud's own blob, and no cloud to ask"),
    ("✗ disabled", "its key is disabled; so archived, deleting, deleted, no material"),
    ("✗ no key", "its key is not in this lab; so no version, no provider"),
    ("✗ no answer", "its provider does not answer"),
    ("✗ blocked", "something else stands in the way: the record says what"),
    ("! invalid", "no blob of its provider, or cut off"),
    ("! no context", "made under a context that the record does not have"),
    ("! no key info", "public-key ciphertext without key, version or algorithm"),
)
"""The words with what they mean, for whoever asks for help."""


def state_text(verdict: Verdict) -> str:
    """A sign and a word for what becomes of a record: colour alone tells nothing.

    >>> state_text(Verdict(Outcome.STALE)), state_text(Verdict(Outcome.BLOCKED, "key disabled"))
    ('○ stale', '✗ disabled')
    """
    if verdict.outcome is Outcome.BLOCKED:
        if verdict.reason.startswith(NO_ANSWER):
            return _UNANSWERED
        return _BLOCKED.get(verdict.reason, _OUTCOMES[Outcome.BLOCKED])
    return _OUTCOMES[verdict.outcome]


def state_word(verdict: Verdict) -> str:
    """The word alone.

    >>> state_word(Verdict(Outcome.NEEDS_PUBLIC_KEY_INFO))
    'no key info'
    """
    return state_text(verdict)[2:]


def named(word: str) -> str:
    """A word as it is written in a filter, where a space would end it.

    >>> named("No key")
    'no_key'
    """
    return word.lower().replace(" ", "_")


NAMES: Final = tuple(
    dict.fromkeys(
        [
            *(outcome.value for outcome in Outcome),
            *(named(text[2:]) for text in (*_OUTCOMES.values(), *_BLOCKED.values(), _UNANSWERED)),
        ]
    )
)
"""What a filter may name: the outcomes, and the words that the grid has for them."""


def names_of(verdict: Verdict) -> tuple[str, str]:
    """What a filter may name a verdict by: its outcome, and its word."""
    return verdict.outcome.value, named(state_word(verdict))
