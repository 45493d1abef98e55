"""What somebody else has changed, and what was changed here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from kmslab.tui.session import Session
from kmslab.tui.watching import Seen, Watched


def test_no_look_falls_into_a_change_of_keys(session: Session) -> None:
    watched, lab = Watched(session), session.lab
    watched.look()
    changed, end = Event(), Event()

    def change() -> str:
        lab.rotate(lab.key("orders").key_id)
        changed.set()
        end.wait(60)
        return "done"

    with ThreadPoolExecutor(2) as pool:
        changing = pool.submit(watched.while_changing_keys, change)
        changed.wait(60)
        looking = pool.submit(watched.look)
        end.set()
        assert changing.result(60) == "done"
        assert looking.result(60) == Seen()
    lab.rotate(lab.key("orders").key_id)
    assert watched.look() == Seen(keys=("orders was rotated",))


def test_a_source_that_is_taken_was_changed_by_nobody_else(session: Session) -> None:
    watched = Watched(session)
    watched.look()
    assert session.spec is not None
    for taken in (True, False):
        with Path(session.spec.location).open("a", encoding="utf-8") as file:
            file.write("\n")
        if taken:
            watched.source_taken()
        assert watched.look() == Seen(source=not taken)
