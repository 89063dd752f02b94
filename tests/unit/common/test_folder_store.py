"""The artifact store in a folder: what only a folder can do wrong. What every store promises is tested in tests/integration/common."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.runtime.errors import AlreadyExists, InvalidInput, ServiceError, Unavailable
from services.common.runtime.folder_store import FolderStore


def test_link_out_of_the_store_is_not_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="leads out"):
        FolderStore(tmp_path / "store").read("link/secret")


def test_loser_leaves_the_object_and_nothing_beside_it(tmp_path):
    store = FolderStore(tmp_path)
    store.create("object", b"first")
    with pytest.raises(AlreadyExists):
        store.create("object", b"second")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("object", b"first")]


@pytest.mark.parametrize("path", [".", "./", "a/.new-b", "n" * 256, "/".join("n" * 200 for _ in range(6))])
def test_path_that_can_be_no_object_touches_nothing(tmp_path, path):
    store = FolderStore(tmp_path)
    for use in (store.read, store.exists, lambda name: store.create(name, b"")):
        with pytest.raises(InvalidInput):
            use(path)
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_name_writes_outside_or_raises_anything_but_an_expected_failure(tmp_path_factory, path):
    root = tmp_path_factory.mktemp("any") / "store"
    store = FolderStore(root)
    try:
        store.create(path, b"content")
    except ServiceError:
        return
    assert store.read(path) == b"content"
    assert {entry.name for entry in root.parent.iterdir()} == {"store"}


def test_folder_does_not_replace_even_an_empty_one(tmp_path):
    store = FolderStore(tmp_path / "store")
    store.local_path("empty").mkdir(parents=True)
    with pytest.raises(AlreadyExists):
        store.create_folder("empty", tmp_path)


def test_folder_that_can_not_be_copied_leaves_nothing_aside(tmp_path):
    store, source = FolderStore(tmp_path / "store"), tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"copied")
    (source / "b").symlink_to("/proc/self/mem")  # opens as a file, and the system refuses to read it
    with pytest.raises(Unavailable):
        store.create_folder("bundle", source)
    assert list((tmp_path / "store").iterdir()) == []


def test_what_is_removed_leaves_nothing_aside(tmp_path):
    store = FolderStore(tmp_path)
    store.create("folder/one", b"first")
    store.create("folder/two", b"second")
    store.remove("folder/one")
    store.remove("folder")
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_writer_left_half_written_goes_with_its_folder(tmp_path):
    store = FolderStore(tmp_path)
    store.create("folder/object", b"")
    (tmp_path / "folder" / ".new-left").write_bytes(b"half")
    store.remove("folder")
    assert list(tmp_path.iterdir()) == []


def test_links_that_lead_in_a_circle_are_told(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InvalidInput, match="circle"):
        FolderStore(tmp_path).read("a")


def test_what_was_created_is_on_the_disk_with_its_name_before_that_is_told(tmp_path, monkeypatch):
    flushed: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    store, source = FolderStore(tmp_path / "store"), tmp_path / "bundle"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "weights").write_bytes(b"1")
    store.create("jobs/1/events/0", b"x")
    assert flushed[-1] == tmp_path / "store" / "jobs" / "1" / "events"
    flushed.clear()
    store.create_folder("models/one", source)
    assert [path.name for path in flushed if path.name in ("weights", "deep")] == ["weights", "deep"]
    assert flushed[-1] == tmp_path / "store" / "models"
