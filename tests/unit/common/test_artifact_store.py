"""Objects are created once, whole, and only below the root."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound, ServiceError
from services.common.runtime.folder_store import FolderStore


def test_of_many_who_create_an_object_one_wins(tmp_path):
    store, won = FolderStore(tmp_path), []

    def create(number: int) -> None:
        try:
            store.create("jobs/a/events/000000.json", str(number).encode())
            won.append(number)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("jobs/a/events/000000.json") == str(won[0]).encode()


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b", "", "a\x00b"])
def test_no_path_leaves_the_store(tmp_path, path):
    with pytest.raises(InvalidInput):
        FolderStore(tmp_path).create(path, b"")


def test_link_out_of_the_store_is_not_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="leads out"):
        FolderStore(tmp_path / "store").read("link/secret")


def test_missing_object_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        FolderStore(tmp_path).read("nothing")


def test_object_reads_back_and_is_listed_by_name_in_order(tmp_path):
    store = FolderStore(tmp_path)
    for name in ("b", "a", "c"):
        store.create(f"folder/{name}", name.encode())
    assert list(store.list("folder")) == ["a", "b", "c"]
    assert store.read("folder/b") == b"b"
    assert list(store.list("nowhere")) == []


def test_loser_leaves_the_object_and_nothing_beside_it(tmp_path):
    store = FolderStore(tmp_path)
    store.create("object", b"first")
    with pytest.raises(AlreadyExists):
        store.create("object", b"second")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("object", b"first")]


def test_folder_is_no_object(tmp_path):
    store = FolderStore(tmp_path)
    store.create("folder/object", b"")
    with pytest.raises(NotFound):
        store.read("folder")


@pytest.mark.parametrize("path", ["object/below", "object/far/below"])
def test_object_can_not_become_a_folder(tmp_path, path):
    store = FolderStore(tmp_path)
    store.create("object", b"kept")
    with pytest.raises(AlreadyExists):
        store.create(path, b"")
    with pytest.raises(NotFound):
        store.read(path)
    assert store.read("object") == b"kept"


@pytest.mark.parametrize("path", [".", "./", "a/.new-b", "n" * 256, "/".join("n" * 200 for _ in range(6))])
def test_path_that_can_be_no_object_is_refused(tmp_path, path):
    store = FolderStore(tmp_path)
    for use in (store.read, store.exists, lambda name: store.create(name, b"")):
        with pytest.raises(InvalidInput):
            use(path)
    assert list(tmp_path.iterdir()) == []


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_name_raises_anything_but_an_expected_failure(tmp_path_factory, path):
    root = tmp_path_factory.mktemp("any") / "store"
    store = FolderStore(root)
    try:
        store.create(path, b"content")
    except ServiceError:
        return
    assert store.read(path) == b"content"
    assert {entry.name for entry in root.parent.iterdir()} == {"store"}


def test_of_many_who_create_a_folder_one_wins_and_it_is_whole(tmp_path):
    store, won = FolderStore(tmp_path / "store"), []
    for number in range(8):
        for name in ("a", "b"):
            (tmp_path / f"source{number}").mkdir(exist_ok=True)
            (tmp_path / f"source{number}" / name).write_text(str(number))

    def create(number: int) -> None:
        try:
            store.create_folder("bundles/x", tmp_path / f"source{number}")
            won.append(str(number).encode())
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.read("bundles/x/a"), store.read("bundles/x/b")] == won * 2
    assert list(store.list("bundles")) == ["x"]


def test_folder_does_not_replace_even_an_empty_one(tmp_path):
    store = FolderStore(tmp_path / "store")
    store.local_path("empty").mkdir(parents=True)
    with pytest.raises(AlreadyExists):
        store.create_folder("empty", tmp_path)


def test_folder_that_can_not_be_copied_leaves_nothing(tmp_path):
    store = FolderStore(tmp_path / "store")
    with pytest.raises(FileNotFoundError):
        store.create_folder("bundle", tmp_path / "missing")
    assert not store.exists("bundle")
    assert list((tmp_path / "store").iterdir()) == []


def test_what_is_removed_is_gone_whole_and_its_name_is_free_again(tmp_path):
    store = FolderStore(tmp_path)
    for name in ("one", "two"):
        store.create(f"folder/{name}", b"first")
    store.remove("folder/one")
    assert list(store.list("folder")) == ["two"]
    store.create("folder/one", b"second")
    assert store.read("folder/one") == b"second"
    store.remove("folder")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["nothing", "nowhere/nothing", "object/below"])
def test_removing_what_is_not_there_changes_nothing(tmp_path, path):
    store = FolderStore(tmp_path)
    store.create("object", b"kept")
    store.remove(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["object"]


def test_what_a_dead_writer_left_half_written_goes_with_its_folder(tmp_path):
    store = FolderStore(tmp_path)
    store.create("folder/object", b"")
    (tmp_path / "folder" / ".new-left").write_bytes(b"half")
    store.remove("folder")
    assert list(tmp_path.iterdir()) == []
