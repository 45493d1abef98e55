"""No plaintext comes into a frame, a repr, a page or an error."""

from __future__ import annotations

from base64 import b64encode

import pandas as pd
from frame_data import World

import kmslab.frames as frames
from kmslab.analysis import rotation

CANARY = b"canary-7f3a-plaintext"


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
    for secret in (CANARY.decode(), CANARY.hex(), b64encode(CANARY).decode()):
        assert not any(secret in text for text in texts)
