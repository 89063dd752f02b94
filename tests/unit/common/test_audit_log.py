"""A chain of events: one order for all writers, nothing said twice, and no change unseen."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.runtime.audit_log import AuditAction, AuditEntry, AuditLog, FaultKind, _hash
from services.common.runtime.folder_store import FolderStore

APPENDED_EACH = 15


def entry(key: str, **changes) -> AuditEntry:
    return AuditEntry(**{"key": key, "action": AuditAction.JOB_SUBMITTED, "actor": "trainer", "job_id": key} | changes)


def append_some(root: Path, writer: str) -> None:
    log = AuditLog(FolderStore(root))
    for index in range(APPENDED_EACH):
        log.append(entry(f"{writer}-{index}"))


def event_file(root: Path, number: int) -> Path:
    return root / "audit" / f"{number:08d}.json"


def rewrite(root: Path, number: int, is_rehashed: bool = False, **changes) -> None:
    content = json.loads(event_file(root, number).read_text()) | changes
    if is_rehashed:
        content["hash"] = _hash(content)
    event_file(root, number).write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a log of six events."""
    log = AuditLog(FolderStore(tmp_path))
    for index in range(6):
        log.append(entry(f"job-{index}"))
    return tmp_path


@pytest.fixture
def log(root: Path) -> AuditLog:
    return AuditLog(FolderStore(root))


def test_a_log_without_events_holds(tmp_path):
    found = AuditLog(FolderStore(tmp_path)).verify()
    assert (found.number, found.hash, found.fault) == (0, "", None)


def test_events_are_chained_and_the_chain_holds(log):
    events = [log.read(number) for number in range(1, 7)]
    assert [event.job_id for event in events] == [f"job-{index}" for index in range(6)]
    assert [event.previous_hash for event in events] == ["", *(event.hash for event in events[:-1])]
    found = log.verify()
    assert (found.number, found.hash, found.fault) == (6, events[-1].hash, None)


def test_the_same_key_is_said_once_by_any_writer(root, log):
    assert log.append(entry("job-2", reason="again")) is None
    assert AuditLog(FolderStore(root)).last_number() == 6


def test_a_writer_that_died_before_it_noted_the_key_does_not_let_the_thing_be_said_twice(root, log):
    for path in (root / "audit" / "keys").iterdir():
        if json.loads(path.read_text())["number"] == 6:
            path.unlink()
    assert log.verify().fault is None
    assert log.append(entry("job-5")) is None
    assert log.append(entry("job-6")).number == 7
    assert log.verify().fault is None


def test_of_many_processes_that_append_at_once_none_breaks_the_chain(tmp_path):
    # Spawned, as the services' processes are: each has a log object of its own.
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_some, args=(tmp_path, name)) for name in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    log = AuditLog(FolderStore(tmp_path))
    found = log.verify()
    assert (found.number, found.fault) == (3 * APPENDED_EACH, None)
    keys = {log.read(number).key for number in range(1, found.number + 1)}
    assert keys == {f"{name}-{index}" for name in "abc" for index in range(APPENDED_EACH)}


@pytest.mark.parametrize("is_shared", [True, False], ids=["one log", "a log each"])
def test_of_many_threads_that_say_the_same_one_says_it(tmp_path, is_shared):
    shared, said = AuditLog(FolderStore(tmp_path)), []

    def append() -> None:
        log = shared if is_shared else AuditLog(FolderStore(tmp_path))
        for index in range(5):
            said.append(log.append(entry(f"job-{index}")))

    threads = [threading.Thread(target=append) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.number for event in said if event) == [1, 2, 3, 4, 5]
    assert shared.verify().number == 5


def test_a_log_that_grows_while_it_is_verified_holds(root, log):
    writer = threading.Thread(target=append_some, args=(root, "late"))
    writer.start()
    while writer.is_alive():
        assert log.verify().fault is None
    writer.join()
    assert log.verify().number == 6 + APPENDED_EACH


TAMPERED = {
    "reason changed": (lambda root: rewrite(root, 3, reason="nothing happened"), 3, FaultKind.CHANGED),
    "hash made anew": (
        lambda root: rewrite(root, 3, is_rehashed=True, reason="nothing happened"),
        3,
        FaultKind.CHANGED,
    ),
    "last one made anew": (lambda root: rewrite(root, 6, is_rehashed=True, actor="nobody"), 6, FaultKind.CHANGED),
    "field added": (lambda root: rewrite(root, 2, is_rehashed=True, more=1), 2, FaultKind.CHANGED),
    "not an event": (lambda root: event_file(root, 4).write_text("{"), 4, FaultKind.CHANGED),
    "first one gone": (lambda root: event_file(root, 1).unlink(), 1, FaultKind.MISSING),
    "one gone": (lambda root: event_file(root, 4).unlink(), 4, FaultKind.MISSING),
    "end cut off": (lambda root: [event_file(root, number).unlink() for number in (5, 6)], 5, FaultKind.MISSING),
    "all events gone": (lambda root: [path.unlink() for path in (root / "audit").glob("*.json")], 1, FaultKind.MISSING),
    "all keys gone": (lambda root: shutil.rmtree(root / "audit" / "keys"), 1, FaultKind.MISSING),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_whatever_is_done_to_an_event_shows_at_that_event(root, log, name):
    tamper, number, kind = TAMPERED[name]
    tamper(root)
    found = log.verify()
    assert (found.fault.number, found.fault.kind) == (number, kind)
    assert found.number == number - 1


def test_two_events_that_changed_places_show_at_the_first(root, log):
    second, third = (event_file(root, number).read_text() for number in (2, 3))
    event_file(root, 2).write_text(third)
    event_file(root, 3).write_text(second)
    fault = log.verify().fault
    assert (fault.number, fault.kind) == (2, FaultKind.OUT_OF_ORDER)
    assert "event 3 lies in its place" in fault.description


def test_an_event_with_hash_and_key_made_anew_shows_at_the_next(root, log):
    rewrite(root, 3, is_rehashed=True, reason="nothing happened")
    changed = json.loads(event_file(root, 3).read_text())
    for path in (root / "audit" / "keys").iterdir():
        if json.loads(path.read_text())["number"] == 3:
            path.write_text(json.dumps({"number": 3, "hash": changed["hash"]}))
    fault = log.verify().fault
    assert (fault.number, fault.kind) == (4, FaultKind.UNLINKED)


def test_a_chain_written_anew_shows_against_a_hash_that_was_kept_elsewhere(root, log):
    kept = log.verify()
    shutil.rmtree(root / "audit")
    other = AuditLog(FolderStore(root))
    for index in range(6):
        other.append(entry(f"other-{index}"))
    assert log.verify().fault is None
    assert log.verify(kept.number, kept.hash).fault.kind is FaultKind.CHANGED
    assert other.verify(7, kept.hash).fault.kind is FaultKind.MISSING


def test_an_end_cut_off_while_a_writer_lives_is_no_chance_to_write_it_anew(root):
    writer = AuditLog(FolderStore(root))
    writer.append(entry("job-6"))
    shutil.rmtree(root / "audit")
    assert writer.append(entry("job-7")).number == 8
    assert writer.verify().fault.kind is FaultKind.MISSING


def test_a_hole_leads_no_writer_to_write_there_anew(root):
    event_file(root, 1).unlink()
    assert AuditLog(FolderStore(root)).append(entry("job-6")).number == 7


def test_no_event_is_older_than_the_one_before_it_whatever_the_clocks_say(root, log):
    late = "2999-01-01T00:00:00Z"
    rewrite(root, 6, is_rehashed=True, at=late)
    for path in (root / "audit" / "keys").iterdir():
        if json.loads(path.read_text())["number"] == 6:
            path.unlink()
    log.append(entry("job-6"))
    assert log.read(7).at == log.read(6).at
    assert log.verify().fault is None


class _UnsyncedStore(FolderStore):
    """Writes without waiting for the disk, as nobody reads after a power cut here."""

    def create(self, path: str, content: bytes) -> None:
        target = self.local_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


class _CountingStore(FolderStore):
    """Counts look-ups."""

    looked_up = listed = 0

    def exists(self, path: str) -> bool:
        self.looked_up += 1
        return super().exists(path)

    def list(self, path: str) -> Iterator[str]:
        self.listed += 1
        return super().list(path)


def test_thousands_of_events_are_listed_once_by_a_writer_and_verified_in_seconds(tmp_path):
    log = AuditLog(_UnsyncedStore(tmp_path))
    for index in range(3000):
        log.append(entry(f"job-{index}"))
    counting = _CountingStore(tmp_path)
    other = AuditLog(counting)
    for number in range(3001, 3004):
        assert other.append(entry(f"more-{number}")).number == number
    assert (counting.listed, counting.looked_up) == (1, 6)
    assert log.append(entry("last")).number == 3004
    started = time.monotonic()
    assert log.verify().number == 3004
    assert time.monotonic() - started < 30
