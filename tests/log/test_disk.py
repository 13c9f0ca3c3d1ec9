"""Both forms of the Disk seam keep the same contract; the real one meets real limits."""

from __future__ import annotations

import os
import random
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ottla.log import Crashed, Disk, DiskError, DiskFull, DiskLocked, FileClosed, ModelledDisk, OsDisk


@pytest.fixture(params=["os", "modelled"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Disk, str]]:
    if request.param == "os":
        yield OsDisk(), str(tmp_path)
    else:
        yield ModelledDisk(random.Random(0)), "root"


def test_contract(both: tuple[Disk, str]) -> None:
    disk, root = both
    disk.mkdir(f"{root}/a/b")
    disk.mkdir(f"{root}/a/b")
    path = f"{root}/a/b/f"
    with pytest.raises(DiskError):
        disk.open(path)
    file = disk.open(path, create=True)
    file.append((b"hello ", memoryview(b"xxworld")[2:], bytearray(b"!")))
    assert (file.size(), file.pread(6, 5), file.pread(6, 100), file.pread(50, 1)) == (12, b"world", b"world!", b"")
    file.pwrite(0, b"J")
    file.truncate(5)
    file.append((b"y",))
    file.sync()
    assert disk.read(path) == b"Jelloy"
    assert disk.open(path).size() == 6
    file.close()
    file.close()
    for action in (file.sync, lambda: file.append((b"x",)), lambda: file.pread(0, 1), lambda: file.truncate(0)):
        with pytest.raises(FileClosed):
            action()
    disk.write_atomic(f"{root}/a/g", b"1")
    disk.write_atomic(f"{root}/a/g", b"22")
    assert disk.read(f"{root}/a/g") == b"22"
    assert disk.listdir(f"{root}/a") == ["b", "g"]
    disk.rename(f"{root}/a/b", f"{root}/a/c")
    disk.sync_dir(f"{root}/a")
    assert disk.exists(f"{root}/a/c/f") and not disk.exists(path)
    disk.remove(f"{root}/a/g")
    disk.remove_tree(f"{root}/a/c")
    assert disk.listdir(f"{root}/a") == []
    for missing in (lambda: disk.remove(path), lambda: disk.read(path), lambda: disk.rename(path, root + "/z")):
        with pytest.raises(DiskError):
            missing()
    with pytest.raises(DiskError):
        disk.listdir(f"{root}/none")


def test_locks_exclude_each_other(both: tuple[Disk, str]) -> None:
    disk, root = both
    disk.mkdir(root)
    lock = disk.lock(f"{root}/.lock")
    with pytest.raises(DiskLocked):
        disk.lock(f"{root}/.lock")
    lock.release()
    lock.release()
    disk.lock(f"{root}/.lock").release()


def test_a_file_size_limit_is_a_full_disk_and_the_rest_can_be_cut(tmp_path: Path) -> None:
    """RLIMIT_FSIZE gives a short write, then EFBIG: the nearest to a full disk without privileges."""
    file = OsDisk().open(str(tmp_path / "f"), create=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        file.append((b"a" * 600,))
        with pytest.raises(DiskFull):
            file.append((b"b" * 300, b"c" * 300))
        assert file.size() == 600
        assert os.path.getsize(file.path) == 1000
        file.truncate(file.size())
        file.append((b"d" * 400,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert OsDisk().read(file.path) == b"a" * 600 + b"d" * 400
    file.close()


def test_closing_while_a_sync_runs_leaves_the_descriptor_to_the_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()
    synced: list[int] = []

    def slow_sync(fd: int) -> None:
        entered.set()
        assert leave.wait(10)
        os.fsync(fd)  # EBADF if it had been closed
        synced.append(fd)

    monkeypatch.setattr("ottla.log.disk._sync_data", slow_sync)
    file = OsDisk().open(str(tmp_path / "f"), create=True)
    thread = threading.Thread(target=file.sync)
    thread.start()
    assert entered.wait(10)
    file.close()
    leave.set()
    thread.join(10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(synced[0])


def test_the_model_keeps_what_was_synced_and_only_that_for_sure() -> None:
    outcomes = set()
    for seed in range(200):
        disk = ModelledDisk(random.Random(seed))
        disk.mkdir("d")
        file = disk.open("d/f", create=True)
        file.append((b"a" * 600,))
        file.sync()
        disk.sync_dir("d")
        file.append((b"b" * 600,))
        file.append((b"c" * 600,))
        disk.write_atomic("d/g", b"old")
        disk.open("d/unsynced", create=True)
        disk.crash()
        data = disk.read("d/f")
        assert data.startswith(b"a" * 600)
        assert disk.read("d/g") == b"old"
        outcomes.add((len(data), data.count(b"b"), data.count(b"c"), disk.exists("d/unsynced")))
        with pytest.raises(Crashed):
            file.sync()
    assert {(600, 0, 0, False), (1800, 600, 600, True), (1800, 0, 600, False)} <= outcomes
    assert len(outcomes) > 10


def test_the_model_loses_what_a_failed_sync_was_asked_to_keep() -> None:
    disk = ModelledDisk(random.Random(0))
    disk.mkdir("d")
    file = disk.open("d/f", create=True)
    disk.sync_dir("d")
    file.append((b"x",))
    disk.fail_next("sync", path_contains="/f")
    with pytest.raises(DiskError):
        file.sync()
    file.sync()
    assert file.pread(0, 1) == b"x"
    disk.crash()
    assert disk.read("d/f") == b""


def test_the_model_fills_fails_flips_and_calls_back() -> None:
    disk = ModelledDisk(random.Random(0), capacity=10)
    seen: list[str] = []
    disk.on_operation = lambda operation, path: seen.append(operation)
    disk.mkdir("d")
    file = disk.open("d/f", create=True)
    with pytest.raises(DiskFull):
        file.append((b"x" * 12,))
    assert file.size() == 10
    file.pwrite(0, b"y" * 10)
    file.sync()
    assert disk.flip_bit("d/f", 3, 1) == 3
    assert disk.read("d/f")[3] == ord("y") ^ 2
    disk.fail_next("truncate", times=2)
    for _ in range(2):
        with pytest.raises(DiskError):
            file.truncate(0)
    file.truncate(0)
    assert seen == ["mkdir", "open", "append", "pwrite", "sync", "read", "truncate", "truncate", "truncate"]


def test_of_a_write_whose_process_is_killed_the_beginning_may_be_there() -> None:
    data = random.Random(0).randbytes(2000)
    found = set()
    for seed in range(60):
        disk = ModelledDisk(random.Random(seed))
        file = disk.open("f", create=True)
        file.append((b"x" * 100,))
        disk.crash_at = disk.operations + 1
        with pytest.raises(Crashed):
            file.append((data,))
        disk.kill()
        assert disk.read("f") == b"x" * 100 + data[: disk.files()["f"] - 100]
        found.add(disk.files()["f"])
    assert found == {100, 512, 1024, 1536, 2048, 2100}


def test_when_the_power_goes_no_file_outlives_its_directory() -> None:
    left = set()
    for seed in range(40):
        disk = ModelledDisk(random.Random(seed))
        disk.mkdir("root/d")
        for name in ("f", "g"):
            disk.write_atomic(f"root/d/{name}", b"x")
        for directory in ("root/d", "root", "."):
            disk.sync_dir(directory)
        disk.remove_tree("root/d")
        disk.crash()
        left.add(tuple(sorted(path.removeprefix("root/") for path in disk.files())))
        assert disk.exists("root/d") or not disk.files()
    assert left == {(), ("d/f",), ("d/g",), ("d/f", "d/g")}


def test_what_was_in_a_directory_that_was_moved_is_in_none_that_gets_its_name() -> None:
    kept = set()
    for seed in range(20):
        disk = ModelledDisk(random.Random(seed))
        disk.mkdir("root/d")
        disk.sync_dir("root")
        disk.open("root/d/old", create=True)
        disk.rename("root/d", "root/away")
        disk.sync_dir("root")
        disk.mkdir("root/d")
        disk.sync_dir("root")
        disk.crash()
        assert disk.listdir("root/d") == []
        kept.add(disk.exists("root/away/old"))
    assert kept == {True, False}
