"""Whatever happens while a file is replaced, it is the old one or the new one, and alone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from record_files import edit, names_in, new_blob, part_of, records_of

from kmslab.errors import SourceBusy, SourceChanged, SourceError
from kmslab.model import Record
from kmslab.records import replacing
from kmslab.records.source import Change

CSV = b"record_id,ciphertext_blob,provider\n1,A,tencent\n2,A,tencent\n"
NEW = CSV.replace(b",A,", b",NEW,")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "orders.csv").write_bytes(CSV)
    return tmp_path / "orders.csv"


def left_alone(path: Path, content: bytes = CSV) -> bool:
    return path.read_bytes() == content and names_in(path.parent) == [path.name]


class TestInPlace:
    def test_mode_is_kept_and_the_name_is_a_new_file(self, path: Path) -> None:
        path.chmod(0o640)
        inode = path.stat().st_ino
        edit(part_of(path), new_blob)
        assert left_alone(path, NEW)
        assert (path.stat().st_mode & 0o7777, path.stat().st_ino != inode) == (0o640, True)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_owner_is_kept(self, path: Path) -> None:
        os.chown(path, 1234, 4321)
        edit(part_of(path), new_blob)
        assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)

    def test_an_owner_that_cannot_be_kept(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        status = path.stat()
        monkeypatch.setattr(os, "fchown", _raise(PermissionError(errno.EPERM, "no")))
        before = replacing.Replacement._take_on
        monkeypatch.setattr(
            replacing.Replacement,
            "_take_on",
            lambda self, s: before(self, os.stat_result([*s[:4], status.st_uid + 1, *s[5:]])),
        )
        with pytest.raises(SourceError, match="belongs to another user or group"):
            edit(part_of(path), new_blob)
        assert left_alone(path)
        edit(part_of(path), new_blob, path.with_name("copy.csv"))
        assert path.with_name("copy.csv").read_bytes() == NEW

    def test_extended_attributes_are_kept(self, path: Path) -> None:
        try:
            os.setxattr(path, "user.note", b"x")
        except OSError:
            pytest.skip("no extended attributes here")
        edit(part_of(path), new_blob)
        assert os.getxattr(path, "user.note") == b"x"

    def test_links_stay_links(self, path: Path, tmp_path: Path) -> None:
        (tmp_path / "links").mkdir()
        link = tmp_path / "links" / "link.csv"
        link.symlink_to(Path("..") / path.name)
        for part in (part_of(link), part_of(path.parent / "links" / ".." / path.name)):
            assert part.name == str(path)
        edit(part_of(tmp_path / "links"), new_blob)
        assert link.is_symlink()
        assert link.read_bytes() == path.read_bytes() == NEW
        assert names_in(tmp_path / "links") == ["link.csv"]

    def test_nothing_to_change_leaves_the_very_file(self, path: Path) -> None:
        before = path.stat()
        edit(part_of(path), lambda _: None)
        edit(part_of(path), lambda record: new_blob(record, "A"))
        after = path.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert left_alone(path)

    def test_an_error_in_the_pass(self, path: Path) -> None:
        def give_up(record: Record) -> Change:
            raise error

        for error in (KeyboardInterrupt(), ValueError(), OSError()):
            with pytest.raises(type(error)):
                edit(part_of(path), give_up)
        with part_of(path).edit() as pass_:
            for chunk in pass_:
                pass_.write([new_blob(record) for record in chunk.records])
        assert left_alone(path)

    def test_a_very_long_name(self, tmp_path: Path) -> None:
        path = tmp_path / ("单" * 83 + ".csv")
        path.write_bytes(CSV)
        edit(part_of(path), new_blob)
        assert left_alone(path, NEW)

    def test_the_fingerprint_is_that_of_the_bytes(self, path: Path) -> None:
        before = part_of(path).fingerprint()
        edit(part_of(path), new_blob)
        after = part_of(path).fingerprint()
        edit(part_of(path), lambda record: new_blob(record, "A"))
        assert part_of(path).fingerprint() == before != after


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _rewrite(path: Path) -> None:
    path.write_bytes(CSV.replace(b"2,A", b"2,X"))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(CSV)
    other.replace(path)


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"3,A,tencent\n")


def _same_size_and_time(path: Path) -> None:
    status = path.stat()
    _rewrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


MEANWHILE = [_touch, _rewrite, _replace, _append, _same_size_and_time, Path.unlink]


@pytest.mark.parametrize("meddle", MEANWHILE)
@pytest.mark.parametrize("output", [False, True], ids=["", "output"])
def test_a_file_that_changes_meanwhile_is_left_as_it_is(
    path: Path, meddle: Callable[[Path], None], output: bool
) -> None:
    target = path.with_name("copy.csv") if output else None
    with part_of(path).edit(output=target) as pass_:
        for chunk in pass_:
            pass_.write([new_blob(record) for record in chunk.records])
        meddle(path)
        after = path.read_bytes() if path.exists() else None
        with pytest.raises(SourceChanged) as caught:
            pass_.finish()
    assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.exists() else None) == after
    assert names_in(path.parent) == ([] if after is None else [path.name])


class TestOneAtATime:
    def test_two_edits(self, path: Path) -> None:
        with part_of(path).edit() as first:
            with pytest.raises(SourceBusy, match="wait until it is done"):
                part_of(path).edit().__enter__()
            with pytest.raises(SourceBusy):
                part_of(path).edit(output=path.with_name("copy.csv")).__enter__()
            for chunk in first:
                first.write([new_blob(record) for record in chunk.records])
            first.finish()
            with pytest.raises(SourceBusy):  # the new file is not let go of before the edit is
                part_of(path).edit().__enter__()
        assert left_alone(path, NEW)
        edit(part_of(path), lambda record: new_blob(record, "A"))
        assert left_alone(path)

    def test_a_lock_on_what_is_no_longer_the_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened, before = os.open, path.stat().st_ino

        def replace_after(*args: object, **more: object) -> int:
            descriptor: int = opened(*args, **more)  # type: ignore[arg-type]
            if args[0] == path and path.stat().st_ino == before:
                _replace(path)
            return descriptor

        monkeypatch.setattr(os, "open", replace_after)
        edit(part_of(path), new_blob)
        assert left_alone(path, NEW)


KILLED = """
import os, signal, sys
from pathlib import Path
from kmslab.records.files import open_files
from kmslab.records.source import Change
from kmslab.records.spec import SourceSpec
(part,) = open_files(SourceSpec(sys.argv[1])).parts
with part.edit() as edit:
    for chunk in edit:
        edit.write([Change(r.row, r.record_id, "A", "NEW") for r in chunk.records])
    print("here", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_and_no_more(path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        (living,) = set(names_in(path.parent)) - {path.name}
        replacing.remove_leftovers(path)
        assert names_in(path.parent) == [living, path.name]  # its process lives
        with pytest.raises(SourceBusy):
            part_of(path).edit().__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert names_in(path.parent) == [living, path.name]
    others = [".orders.csv.kmslab-123.tmp", ".orders.csvx.kmslab-12345678.tmp", "orders.csv.tmp"]
    for name in others:
        path.with_name(name).touch()
    edit(part_of(path), new_blob)
    assert names_in(path.parent) == sorted([path.name, *others])
    assert path.read_bytes() == NEW


def test_what_only_looks_like_a_leftover_hinders_nobody(path: Path, tmp_path: Path) -> None:
    """Whoever may write to the folder can put anything there; nothing of it is waited for."""
    kept = tmp_path / "kept"
    kept.write_text("kept")
    names = [f".orders.csv.kmslab-0000000{n}.tmp" for n in range(5)]
    link, pipe, folder, dangling, leftover = map(path.with_name, names)
    link.symlink_to(kept)
    os.mkfifo(pipe)
    folder.mkdir()
    dangling.symlink_to("nowhere")
    leftover.touch()
    edit(part_of(path), new_blob)
    assert path.read_bytes() == NEW
    assert names_in(path.parent) == sorted([*names[:4], kept.name, path.name])
    assert kept.read_text() == "kept"


def test_a_leftover_of_another_user_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = path.with_name(".orders.csv.kmslab-00000000.tmp")
    theirs.touch()
    other = os.geteuid() + 1
    lstat = Path.lstat

    def lstat_of(self: Path) -> os.stat_result:
        found = lstat(self)
        return os.stat_result([*found[:4], other, *found[5:]]) if self == theirs else found

    monkeypatch.setattr(Path, "lstat", lstat_of)
    edit(part_of(path), new_blob)
    assert names_in(path.parent) == [theirs.name, path.name]
    assert path.read_bytes() == NEW


def test_a_leftover_that_cannot_be_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = path.with_name(".orders.csv.kmslab-00000000.tmp")
    leftover.touch()
    unlink = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self == leftover:
            raise PermissionError
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    edit(part_of(path), new_blob)
    assert path.read_bytes() == NEW


class TestOutput:
    def test_the_source_is_left_alone(self, path: Path, tmp_path: Path) -> None:
        output = tmp_path / "new" / "folder" / "orders.csv"
        path.chmod(0o604)
        before = path.stat()
        edit(part_of(path), new_blob, output)
        assert output.read_bytes() == NEW
        assert output.stat().st_mode & 0o777 == 0o604
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert names_in(output.parent) == [output.name]
        assert path.read_bytes() == CSV

    def test_nothing_to_change_gives_a_copy(self, path: Path) -> None:
        output = path.with_name("copy.csv")
        edit(part_of(path), lambda _: None, output)
        assert output.read_bytes() == CSV

    @pytest.mark.parametrize("what", ["file", "source", "folder", "link"])
    def test_what_is_there_already_is_refused(self, path: Path, what: str) -> None:
        output = path.with_name("there")
        if what == "file":
            output.touch()
        elif what == "source":
            output = path
        elif what == "folder":
            output.mkdir()
        else:
            output.symlink_to("nowhere")
        before = names_in(path.parent)
        with pytest.raises(SourceError, match="is there already"):
            edit(part_of(path), new_blob, output)
        assert names_in(path.parent) == before
        assert path.read_bytes() == CSV

    @pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
    def test_what_appears_meanwhile_is_not_written_over(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
    ) -> None:
        output = path.with_name("copy.csv")
        if not links:
            monkeypatch.setattr(os, "link", _raise(PermissionError(errno.EPERM, "no links")))
            edit(part_of(path), new_blob, output)
            assert output.read_bytes() == NEW
            output.unlink()
        with part_of(path).edit(output=output) as pass_:
            for chunk in pass_:
                pass_.write([new_blob(record) for record in chunk.records])
            output.write_text("mine")
            with pytest.raises(SourceError, match="is there already"):
                pass_.finish()
        assert output.read_text() == "mine"
        assert names_in(path.parent) == ["copy.csv", "orders.csv"]


def _raise(error: BaseException) -> Callable[..., object]:
    def refuse(*_: object, **__: object) -> object:
        raise error

    return refuse


class TestTroubles:
    @pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
    def test_a_folder_that_cannot_be_written(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        opened = os.open

        def refuse(name: object, flags: int, *more: int, **named: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(code, os.strerror(code))
            return opened(name, flags, *more, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(SourceError, match=f"no file can be made in {path.parent}") as caught:
            edit(part_of(path), new_blob)
        assert "make it writable" in str(caught.value)
        assert left_alone(path)

    @pytest.mark.parametrize(
        ("code", "advice"), [(errno.EIO, "look at its disk"), (errno.EMFILE, "ulimit -n")]
    )
    @pytest.mark.parametrize(
        ("making", "said"), [(True, "no file can be made in"), (False, "the file cannot be read")]
    )
    def test_what_is_not_the_folders_fault(
        self,
        path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: int,
        advice: str,
        making: bool,
        said: str,
    ) -> None:
        part, opened = part_of(path), os.open

        def refuse(name: object, flags: int, *more: int, **named: int) -> int:
            if bool(flags & os.O_CREAT) is making:
                raise OSError(code, os.strerror(code))
            return opened(name, flags, *more, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(SourceError, match=f"{said}.*{advice}.*try again") as caught:
            edit(part, new_blob)
        assert "writable" not in str(caught.value)
        monkeypatch.undo()
        assert left_alone(path)

    @pytest.mark.parametrize("where", ["fsync", "link", "directory"])
    def test_no_room_at_the_end(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        output = path.with_name("copy.csv") if where == "link" else None
        if where == "directory":
            monkeypatch.setattr(Path, "replace", _raise(full))
        else:
            monkeypatch.setattr(os, where, _raise(full))
        with pytest.raises(SourceError, match="the disk is full; nothing was changed"):
            edit(part_of(path), new_blob, output)
        assert left_alone(path)

    def test_a_disk_that_gives_back_something_else(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = replacing.Replacement.write
        monkeypatch.setattr(
            replacing.Replacement, "write", lambda self, data: write(self, data.replace(b"2", b"3"))
        )
        with pytest.raises(SourceError, match="is not what the disk gives back"):
            edit(part_of(path), new_blob)
        assert left_alone(path)

    def test_a_file_that_has_gone(self, path: Path) -> None:
        part = part_of(path)
        path.unlink()
        for use in (part.fingerprint, lambda: list(part.read()), lambda: edit(part, new_blob)):
            with pytest.raises(SourceError, match="there is no such file"):
                use()
        assert names_in(path.parent) == []

    def test_no_regular_file(self, path: Path) -> None:
        part = part_of(path)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(SourceError, match="is no regular file"):
            edit(part, new_blob)


def test_a_full_disk(tmp_path: Path, require: Callable[[str], str]) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = [require("mount"), "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        path = folder / "orders.csv"
        rows = b"".join(b"%d,A%s,tencent\n" % (n, b"A" * 90) for n in range(6_000))
        path.write_bytes(CSV.splitlines(keepends=True)[0] + rows)
        before = records_of(path)
        with pytest.raises(SourceError, match="the disk is full; nothing was changed"):
            edit(part_of(path), new_blob_as_long)
        assert names_in(folder) == [path.name]
        assert records_of(path) == before
        edit(part_of(path), new_blob_as_long, tmp_path / "elsewhere.csv")
        assert len(records_of(tmp_path / "elsewhere.csv")) == 6_000
    finally:
        subprocess.run([require("umount"), "--lazy", str(folder)], check=True)


def new_blob_as_long(record: Record) -> Change:
    return new_blob(record, "B" * 91)
