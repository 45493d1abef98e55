"""What the explorer is opened on: a lab, what campaigns stand on, the source that is looked at."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kmslab.campaign.rendering import moment
from kmslab.campaign.run import Ground
from kmslab.campaign.sources import Sources
from kmslab.campaign.standing import unfinished_on
from kmslab.campaign.state import State
from kmslab.clock import ManualClock
from kmslab.demo import DEMO_TIME, RECORDS, ROTATED, make_lab, sample_path
from kmslab.errors import KmslabError, SettingError
from kmslab.keys import Names
from kmslab.lab import Lab
from kmslab.records.spec import SourceSpec
from kmslab.remotes import Remotes

DEMO_SOURCE: Final = "sample"
"""What the sample data are called in the demo lab."""


@dataclass(slots=True)
class Session:
    """An open lab, or remotes, and what is done with it.

    `spec` is the source that is looked at, None while there is none, and `source` what it is called
    on a command line. `options` are those with which the command line finds the same lab and state.
    `password` is the location of a database and its password, which is stored nowhere.
    `locked` says that nothing can be written whatever is pressed; `read_only` that nothing is to
    be just now. `demo` says that all of it is in a temporary directory.
    """

    keyring: Lab | Remotes
    ground: Ground
    where: str
    spec: SourceSpec | None = None
    source: str = ""
    options: tuple[str, ...] = ()
    password: tuple[str, str] | None = field(default=None, repr=False)
    locked: bool = False
    read_only: bool = False
    demo: bool = False

    def __post_init__(self) -> None:
        self.read_only = self.read_only or self.locked

    @property
    def remote(self) -> bool:
        """Whether it is on remotes, and on no lab."""
        return isinstance(self.keyring, Remotes)

    @property
    def lab(self) -> Lab:
        """The lab; SettingError on remotes, where whatever needs it is not offered."""
        if isinstance(self.keyring, Remotes):
            raise SettingError("this needs a lab, and here are remotes")
        return self.keyring

    @property
    def sources(self) -> Sources:
        """The registered sources."""
        return Sources(self.ground.state, self.ground.clock)

    def password_of(self, spec: SourceSpec) -> str | None:
        """The password for a source, where there is one; it is given to no other."""
        if self.password is None or self.password[0] != spec.location:
            return None
        return self.password[1]

    def unfinished(self) -> str:
        """The campaign on the source that is looked at which is not finished; "" for none, or where
        a journal cannot be read: whoever begins another is told so."""
        if self.spec is None or not self.ground.state.journals():
            return ""
        try:
            return unfinished_on(self.ground.state, self.ground.open_source(self.spec).name)
        except KmslabError:
            return ""

    def names(self) -> Names:
        """What the keys are called now."""
        return Names.of(self.keyring)


@contextmanager
def demo_session(*, locked: bool = False) -> Iterator[Session]:
    """The demo lab in a temporary directory, with some keys rotated and a copy of the sample data.

    All of it is gone afterwards.
    """
    with tempfile.TemporaryDirectory(prefix="kmslab-demo-") as place, make_demo(Path(place)) as lab:
        yield demo_in(Path(place), lab, locked=locked)


def make_demo(place: Path) -> Lab:
    """The demo lab, open, as `lab` in a directory, with some keys rotated; `records.csv` beside."""
    lab = make_lab(place / "lab")
    try:
        for alias in ROTATED:
            lab.rotate(lab.key(alias).key_id)
        shutil.copyfile(sample_path(RECORDS), place / RECORDS)
        spec = SourceSpec(str(place / RECORDS))
        Sources(State.of(place / "lab", None), ManualClock(DEMO_TIME)).add(DEMO_SOURCE, spec)
    except BaseException:
        lab.close()
        raise
    return lab


def demo_in(place: Path, lab: Lab, *, locked: bool = False) -> Session:
    """A session on the demo lab that `make_demo` has made."""
    state = State.of(place / "lab", None)
    ground = Ground(lab, state, ManualClock(DEMO_TIME))
    return Session(
        lab,
        ground,
        where=f"demo lab, whose clock stands at {moment(DEMO_TIME)}",
        spec=SourceSpec(str(place / RECORDS)),
        source=DEMO_SOURCE,
        options=("--lab", str(place / "lab")),
        locked=locked,
        demo=True,
    )
