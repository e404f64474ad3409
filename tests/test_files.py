"""Files are there whole or not at all, whatever fails or dies meanwhile, and what is left is overwritten."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spiking_lfp.errors import DataError, ExportError, RunError
from spiking_lfp.files import EXPORTS, RESULTS, AtomicWriter, files_in

OTHER = AtomicWriter(DataError, "look elsewhere")


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_files_are_found_in_linked_folders_too_and_each_once(tmp_path: Path) -> None:
    for name in ("b/2", "a/1", "a/deep/3", ".hidden/4", "__MACOSX/5", "a/.DS_Store"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "6").touch()
    root = tmp_path / "root"
    (root / "a" / "link").symlink_to(tmp_path / "other")
    # circles: of a folder that holds itself, of two that hold each other, and of a link to itself
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "across").symlink_to(root / "a")
    (root / "a" / "across").symlink_to(root / "b")
    (root / "itself").symlink_to(root / "itself")
    (root / "nothing").symlink_to(root / "none")
    found = [path.relative_to(root).as_posix() for path in files_in(root)]
    assert found == sorted(found, key=lambda name: name.split("/"))
    own = ["a/1", "a/deep/3", "a/link/6", "b/2"]
    assert [name for name in found if "across" not in name] == own
    assert {name for name in found if "across" in name} == {
        "a/across/2", "b/across/1", "b/across/deep/3", "b/across/link/6",
    }  # fmt: skip
    assert files_in(tmp_path / "none") == []


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()

    def scandir(path: Path, real: Any = os.scandir) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"the folder .*locked cannot be read: Permission denied; allow it, or move it"):
        files_in(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def stop_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)


def stop_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", full)


@pytest.mark.parametrize("writer", [RESULTS, EXPORTS, OTHER])
@pytest.mark.parametrize("failure", [stop_fsync, stop_rename])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failing_write_leaves_what_was_there(
    writer: AtomicWriter, failure: Callable[[pytest.MonkeyPatch], None], old: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.MonkeyPatch.context() as monkeypatch:
        failure(monkeypatch)
        says = f"^cannot write {path}: No space left on device; free some space or {writer.elsewhere}$"
        with pytest.raises(writer.error, match=says):
            writer.write(path, b"new content")
    assert contents(tmp_path) == ({} if old is None else {"file": old})


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_whatever_ends_a_write_half_way_leaves_what_was_there(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def die_half_way() -> None:
        with EXPORTS.writing(path) as temporary:
            temporary.write_bytes(b"ne")
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(ExportError if error is OSError else error):
        die_half_way()
    assert contents(tmp_path) == {"file": b"old"}


def test_a_write_beyond_the_limit_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    # in a process of its own, since the limit holds for all that it writes
    script = f"""
import resource
from pathlib import Path
from spiking_lfp.errors import RunError
from spiking_lfp.files import RESULTS
resource.setrlimit(resource.RLIMIT_FSIZE, (4, resource.RLIM_INFINITY))
try:
    RESULTS.write(Path({str(path)!r}), b"new content")
except RunError as error:
    assert str(error).startswith("cannot write {path}: File too large"), error
else:
    raise AssertionError("the limit of file sizes has no effect")
"""
    run = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert run.returncode == 0, run.stderr
    assert contents(tmp_path) == {"file": b"old"}


def test_a_write_replaces_the_file(tmp_path: Path) -> None:
    for content in (b"first, the longer one", b"second"):
        assert RESULTS.write(tmp_path / "file", content) == tmp_path / "file"
        assert contents(tmp_path) == {"file": content}


def test_a_write_is_on_disk_before_it_takes_the_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def sync(file: int) -> None:
        found = os.fstat(file)
        synced.append(("folder" if stat.S_ISDIR(found.st_mode) else found.st_size, sorted(contents(tmp_path))))

    monkeypatch.setattr(os, "fsync", sync)
    RESULTS.write(tmp_path / "file", b"12345")
    assert synced == [(5, [".file.tmp"]), ("folder", ["file"])]


def test_a_folder_that_cannot_be_brought_to_disk_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: full() if stat.S_ISDIR(os.fstat(file).st_mode) else None)
    RESULTS.write(tmp_path / "file", b"12345")
    assert contents(tmp_path) == {"file": b"12345"}


def test_a_write_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^cannot write "):
        RESULTS.write(tmp_path / "file" / "x", b"")


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        for write in (
            lambda name=name: RESULTS.write(tmp_path / name, b"x"),
            lambda name=name: RESULTS.write_all(tmp_path, {"new": b"y", name: b"x"}),
        ):
            with pytest.raises(RunError, match=f"cannot write .*{name}: it is not a regular file; choose another fold"):
                write()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_what_a_kill_left_of_a_write_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file"
    script = f"""
import os, signal
from pathlib import Path
from spiking_lfp.files import RESULTS
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
RESULTS.write(Path({str(path)!r}), b"first")
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert contents(tmp_path) == {".file.tmp": b"first"}
    RESULTS.write(path, b"second")
    assert contents(tmp_path) == {"file": b"second"}


# ---------------------------------------------------------------- several files


def fail_at(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, number: int, error: BaseException) -> None:
    """Let call `number`, from 0, of a function fail."""
    function, calls = getattr(where, name), iter(range(1000))

    def called(*arguments: Any) -> Any:
        if next(calls) == number:
            raise error
        return function(*arguments)

    monkeypatch.setattr(where, name, called)


@pytest.mark.parametrize("optional", [(), ("golden", "sub/b", "none")])
def test_files_are_written_together_and_optional_ones_of_a_write_before_are_gone(
    optional: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "x" / "y"
    before = {"a": b"1", "golden": b"2", "sub/b": b"3"}
    assert EXPORTS.write_all(folder, before) == [folder / name for name in before]
    (folder / "of the user").write_bytes(b"4")
    after = {"a": b"5", "sub/b": b"6", "deep/er/c": b"7"}
    EXPORTS.write_all(folder, after, optional)
    kept = {} if optional else {"golden": b"2"}
    assert contents(folder) == {**after, **kept, "of the user": b"4"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("where", "name", "number"),
    [
        (Path, "write_bytes", 0),
        (Path, "write_bytes", 2),
        (os, "fsync", 1),
        *((Path, "replace", number) for number in range(3)),
    ],
)
@pytest.mark.parametrize("old", [True, False])
def test_of_files_that_belong_together_none_is_written_if_one_fails(
    old: bool, where: Any, name: str, number: int, error: BaseException, tmp_path: Path
) -> None:
    folder = tmp_path / "x" / "y"
    if old:
        EXPORTS.write_all(folder, {"a": b"1", "sub/b": b"3"})
    before = sorted(tmp_path.rglob("*")), contents(tmp_path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        fail_at(monkeypatch, where, name, number, error)
        with pytest.raises(ExportError if isinstance(error, OSError) else KeyboardInterrupt):
            EXPORTS.write_all(folder, {"a": b"5", "sub/b": b"6", "new/c": b"7"})
    assert (sorted(tmp_path.rglob("*")), contents(tmp_path)) == before


BEFORE = {"a": b"1", "sub/b": b"3", "golden": b"2", "of the user": b"4"}
AFTER = {"a": b"5", "sub/b": b"6", "new/c": b"7"}
# three files are moved aside, three take their names
RENAMES = 6


@pytest.mark.parametrize("number", range(RENAMES))
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_whichever_rename_fails_all_files_are_those_of_before(
    error: BaseException, number: int, tmp_path: Path
) -> None:
    EXPORTS.write_all(tmp_path, BEFORE)
    before = sorted(tmp_path.rglob("*"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        fail_at(monkeypatch, Path, "replace", number, error)
        with pytest.raises(ExportError if isinstance(error, OSError) else KeyboardInterrupt):
            EXPORTS.write_all(tmp_path, AFTER, ["golden"])
    assert (sorted(tmp_path.rglob("*")), contents(tmp_path)) == (before, BEFORE)


@pytest.mark.parametrize("number", range(RENAMES))
def test_a_process_that_dies_between_renames_leaves_no_mixture_and_the_next_write_tidies(
    number: int, tmp_path: Path
) -> None:
    EXPORTS.write_all(tmp_path, BEFORE)
    script = f"""
import os, signal
from pathlib import Path
from spiking_lfp.files import EXPORTS
calls, replace = iter(range(100)), Path.replace
Path.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == {number} else replace(*a)
EXPORTS.write_all(Path({str(tmp_path)!r}), {AFTER!r}, ["golden"])
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    found = {name: content for name, content in contents(tmp_path).items() if not Path(name).name.startswith(".")}
    assert found.items() <= BEFORE.items() or found.items() <= {**AFTER, "of the user": b"4"}.items()
    EXPORTS.write_all(tmp_path, AFTER, ["golden"])
    assert contents(tmp_path) == {**AFTER, "of the user": b"4"}


def test_files_that_cannot_be_moved_back_are_named(tmp_path: Path) -> None:
    EXPORTS.write_all(tmp_path, BEFORE)
    says = rf"^cannot write {tmp_path}/sub/b: full; .*moved back: rename {tmp_path}/\.a\.old to a$"
    with pytest.MonkeyPatch.context() as monkeypatch:
        for number in (1, 2):
            fail_at(monkeypatch, Path, "replace", number, OSError(errno.EIO, "full"))
        with pytest.raises(ExportError, match=says):
            EXPORTS.write_all(tmp_path, AFTER)
    assert (tmp_path / ".a.old").read_bytes() == b"1"


def test_a_new_folder_is_gone_whichever_of_its_files_cannot_take_its_name(tmp_path: Path) -> None:
    for number in range(3):
        with pytest.MonkeyPatch.context() as monkeypatch:
            fail_at(monkeypatch, Path, "replace", number, OSError(errno.EIO, "broken"))
            with pytest.raises(ExportError, match="broken"):
                EXPORTS.write_all(tmp_path / "x", {"a": b"5", "sub/b": b"6", "new/c": b"7"})
        assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_one_of_several_files_changes_none(tmp_path: Path) -> None:
    EXPORTS.write_all(tmp_path, {"a": b"1"})
    (tmp_path / "b").mkdir()
    with pytest.raises(
        ExportError, match=rf"^cannot write {tmp_path / 'b'}: Is a directory; name a file, not a folder$"
    ):
        EXPORTS.write_all(tmp_path, {"a": b"2", "b": b"3"})
    assert contents(tmp_path) == {"a": b"1"}


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or look elsewhere"),
        (errno.EDQUOT, "free some space or look elsewhere"),
        (errno.EFBIG, "raise the limit of file sizes (ulimit -f) or look elsewhere"),
        (errno.EISDIR, "name a file, not a folder"),
        (errno.ENOENT, "make its folder first or look elsewhere"),
        (errno.ENAMETOOLONG, "take a shorter name"),
        (errno.EACCES, "look elsewhere"),
        (errno.EROFS, "look elsewhere"),
        (None, "look elsewhere"),
    ],
)
def test_the_remedy_is_that_of_the_error(number: int | None, remedy: str, tmp_path: Path) -> None:
    error = OSError("odd") if number is None else OSError(number, os.strerror(number))
    with pytest.raises(DataError) as raised, OTHER.convert_errors(tmp_path):
        raise error
    said = "odd" if number is None else os.strerror(number)
    assert str(raised.value) == f"cannot write {tmp_path}: {said}; {remedy}"
