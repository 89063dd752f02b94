"""What the artifact store promises, in a folder and in a bucket alike."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.runtime import s3_bucket
from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound, ServiceError, Unavailable
from services.common.runtime.open_store import open_store
from tests.support.s3_server import S3Server


@pytest.fixture(params=["folder", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_root")


@pytest.fixture
def store(root: str) -> ArtifactStore:
    return open_store(root)


@contextmanager
def _no_file_opens() -> Iterator[None]:
    """A disk that refuses: this process may open no file, a real answer of the kernel, which needs no rights to be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def _frozen(server: S3Server) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@pytest.fixture
def trouble(root: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[None]:
    """What the store can't be used in: a folder whose disk refuses, a bucket whose server hangs."""
    if "://" not in root:
        return _no_file_opens()
    monkeypatch.setattr(s3_bucket, "CALL_S", 0.5)
    return _frozen(request.getfixturevalue("s3_server"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a file in it and one further down."""
    (tmp_path / "source" / "below").mkdir(parents=True)
    (tmp_path / "source" / "one").write_bytes(b"1")
    (tmp_path / "source" / "below" / "two").write_bytes(b"2")
    return tmp_path / "source"


def race(root: str, count: int, create: Callable[[ArtifactStore, int], None]) -> list[int]:
    """Who of `count` writers won, each with a store of its own."""
    won: list[int] = []
    stores, gate = [open_store(root) for _ in range(count)], threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            create(stores[number], number)
            won.append(number)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_of_many_who_create_an_object_one_wins(root, store):
    path = "jobs/a/events/000000.json"
    won = race(root, 4, lambda writer, number: writer.create(path, str(number).encode()))
    assert len(won) == 1
    assert store.read(path) == str(won[0]).encode()


def test_of_many_who_create_the_same_object_one_wins(root):
    assert len(race(root, 4, lambda writer, number: writer.create("jobs/a", b"same"))) == 1


def test_of_many_who_create_a_folder_one_wins_and_it_is_whole(root, store, tmp_path):
    for number in range(4):
        (tmp_path / f"source{number}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"source{number}" / name).write_text(str(number))
    won = race(root, 4, lambda writer, number: writer.create_folder("bundles/x", tmp_path / f"source{number}"))
    assert len(won) == 1
    assert [store.read("bundles/x/a"), store.read("bundles/x/b")] == [str(won[0]).encode()] * 2
    assert list(store.list("bundles")) == ["x"]


def test_object_reads_back_and_is_listed_by_name_in_order_by_everybody(root, store):
    names = [f"{number:02d}" for number in range(16)]
    for name in reversed(names):
        store.create(f"folder/{name}", name.encode())
    store.create("folder/below/object", b"")
    other = open_store(root)
    assert list(other.list("folder")) == [*names, "below"]
    assert other.read("folder/07") == b"07"
    assert list(other.list("nowhere")) == list(other.list("folder/07")) == []


def test_missing_object_is_not_found(store):
    with pytest.raises(NotFound):
        store.read("nothing")
    assert not store.exists("nothing")


def test_large_object_reads_back(store):
    content = bytes(range(256)) * 2**14
    store.create("large", content)
    assert store.read("large") == content
    with store.fetch("large") as file:
        assert file.read_bytes() == content


def test_loser_leaves_the_object_as_it_is(store):
    store.create("object", b"first")
    with pytest.raises(AlreadyExists):
        store.create("object", b"second")
    assert store.read("object") == b"first"


def test_folder_is_no_object_and_can_not_become_one(store):
    store.create("folder/object", b"")
    assert store.exists("folder")
    with pytest.raises(NotFound):
        store.read("folder")
    with pytest.raises(AlreadyExists):
        store.create("folder", b"")


@pytest.mark.parametrize("path", ["object/below", "object/far/below"])
def test_object_can_not_become_a_folder(store, source, path):
    store.create("object", b"kept")
    with pytest.raises(AlreadyExists):
        store.create(path, b"")
    with pytest.raises(AlreadyExists):
        store.create_folder(path, source)
    with pytest.raises(NotFound):
        store.read(path)
    assert store.read("object") == b"kept"


def test_created_folder_is_read_listed_and_found_as_if_its_objects_were_created(store, source):
    store.create_folder("bundles/x", source)
    assert list(store.list("bundles")) == ["x"]
    assert list(store.list("bundles/x")) == ["below", "one"]
    assert list(store.list("bundles/x/below")) == ["two"]
    assert store.read("bundles/x/below/two") == b"2"
    there = ("bundles/x", "bundles/x/one", "bundles/x/below", "bundles/x/below/two")
    assert [path for path in (*there, "bundles/x/on", "bundles/x/one/more") if store.exists(path)] == list(there)
    for path in ("bundles/x", "bundles/x/below", "bundles/x/none"):
        with pytest.raises(NotFound):
            store.read(path)


@pytest.mark.parametrize("path", ["bundles/x", "bundles/x/one", "bundles"])
def test_created_folder_is_never_changed(store, source, path):
    store.create_folder("bundles/x", source)
    with pytest.raises(AlreadyExists):
        store.create_folder(path, source)
    with pytest.raises(AlreadyExists):
        store.create(path, b"other")
    assert store.read("bundles/x/one") == b"1"


def test_folder_that_can_not_be_copied_leaves_nothing(root, store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.create_folder("bundle", tmp_path / "missing")
    assert not store.exists("bundle")


@pytest.mark.parametrize("path", ["bundles/x", "bundles/x/below", "bundles", "plain"])
def test_folder_is_fetched_with_all_below_it(store, source, path):
    store.create_folder("bundles/x", source)
    store.create("plain/below/two", b"2")
    with store.fetch(path) as folder:
        assert folder.name == path.split("/")[-1]
        assert next(folder.rglob("two")).read_bytes() == b"2"


@pytest.mark.parametrize("path", ["plain/object", "bundles/x/one"])
def test_object_is_fetched_as_a_file(store, source, path):
    store.create("plain/object", b"1")
    store.create_folder("bundles/x", source)
    with store.fetch(path) as file:
        assert (file.name, file.read_bytes()) == (path.split("/")[-1], b"1")


@pytest.mark.parametrize("path", ["nothing", "bundles/x/none", "bundles/x/one/more"])
def test_what_is_not_there_is_not_fetched(store, source, path):
    store.create_folder("bundles/x", source)
    with pytest.raises(NotFound), store.fetch(path):
        pass


def test_what_is_removed_is_gone_whole_and_its_name_is_free_again(root, store, source):
    for name in ("one", "two"):
        store.create(f"folder/{name}", b"first")
    store.create_folder("folder/whole", source)
    store.remove("folder/one")
    store.remove("folder/whole")
    assert list(store.list("folder")) == ["two"]
    store.create("folder/one", b"second")
    store.create("folder/whole", b"an object now")
    assert open_store(root).read("folder/one") == b"second"
    store.remove("folder")
    assert not store.exists("folder")
    store.create("folder", b"an object now")


@pytest.mark.parametrize("path", ["nothing", "nowhere/nothing", "object/below"])
def test_removing_what_is_not_there_changes_nothing(store, path):
    store.create("object", b"kept")
    store.remove(path)
    assert store.read("object") == b"kept"


def test_a_store_that_can_not_be_used_says_so_and_shows_nothing_half_made(store, source, trouble):
    store.create("there/object", b"kept")
    uses = [
        lambda: store.read("there/object"),
        lambda: list(store.list("there")),
        lambda: store.create("new/object", b"new"),
        lambda: store.create_folder("new/folder", source),
    ]
    with trouble:
        for use in uses:
            with pytest.raises(Unavailable, match="artifact store: "):
                use()
    assert store.read("there/object") == b"kept"
    assert list(store.list("new")) == []
    store.create_folder("new/folder", source)
    assert store.read("new/folder/below/two") == b"2"


_LONG = ["n" * 256, "/".join("n" * 200 for _ in range(5))]


@pytest.mark.parametrize(
    "path", ["", ".", "./", "../out", "/etc", "a/../../b", "a\x00b", "a/.new-b", "a/.folders", *_LONG]
)
def test_path_that_can_be_no_object_is_refused(store, source, path):
    uses = [store.read, store.exists, store.remove, lambda name: list(store.list(name))]
    uses += [lambda name: store.create(name, b""), lambda name: store.create_folder(name, source)]
    for use in [*uses, lambda name: store.fetch(name).__enter__()]:
        with pytest.raises(InvalidInput):
            use(path)


@given(path=st.text(max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_raises_anything_but_an_expected_failure(store, path):
    content = path.encode()
    try:
        store.create(path, content)
    except ServiceError:
        return
    assert store.read(path) == content
    assert store.exists(path)
