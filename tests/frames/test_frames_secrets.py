"""No plaintext comes into a frame, a repr, a page or an error."""

from __future__ import annotations

from base64 import b64encode

import pandas as pd
import pytest
from frame_data import World

import kmslab.frames as frames
from kmslab.analysis import rotation
from kmslab.errors import FrameError

CANARY = b"canary-7f3a-plaintext"
SECRETS = (CANARY.decode(), CANARY.hex(), b64encode(CANARY).decode())


def test_no_plaintext_anywhere(world: World) -> None:
    kms = world.lab.ctyun()
    blobs = [kms.encrypt(world.ctyun.key_id, CANARY) for _ in range(3)]
    world.lab.rotate(world.ctyun.key_id)
    frame = pd.DataFrame({"ciphertext_blob": [*blobs, blobs[0][:-2] + "AA"], "owner": "me"})
    inventory = frame.kms.inspect(world.lab)
    moved = frame.kms.re_encrypt(world.lab)
    assert moved["result"].tolist() == ["re_encrypted"] * 3 + ["failed"]  # with the reason
    plan = frame.kms.plan(world.lab, deep=True)
    shown = [inventory, moved, frames.versions(world.lab), rotation.forecast(inventory)]
    shown += [inventory.kms.exposure(), rotation.blast_radius(inventory)]
    texts = [each.to_csv() + repr(each) + each.to_html() for each in shown]
    texts += [repr(plan), plan._repr_html_(), repr(plan.as_dict())]
    assert "re_encrypted" in texts[1]
    assert not any(secret in text for text in texts for secret in SECRETS)


@pytest.mark.parametrize(
    "cell", [CANARY, [CANARY], {"data": CANARY.decode()}], ids=["bytes", "list", "dict"]
)
@pytest.mark.parametrize("name", ["provider", "key_id", "encryption_context", "source_key_id"])
def test_what_is_in_the_wrong_column_is_in_no_error(name: str, cell: object) -> None:
    with pytest.raises(FrameError, match=f"column '{name}', row 0") as raised:
        pd.DataFrame({"ciphertext_blob": ["cut"], name: [cell]}).kms.inspect()
    assert not any(secret in repr(raised.value) for secret in SECRETS)


def test_what_is_no_blob_is_in_no_error() -> None:
    cells = [CANARY, CANARY.decode(), f" {CANARY.decode()} ", f"a-k-{CANARY.decode()}-k-b"]
    cells.append(b64encode(CANARY).decode())
    errors = pd.DataFrame({"ciphertext_blob": cells}).kms.inspect()["error"]
    assert errors.notna().all()
    assert not any(secret in error for error in errors for secret in SECRETS)
