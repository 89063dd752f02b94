"""The artifact store in a bucket when answers get lost, writers die, access is denied or the server is not up to it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.stack.processes import free_port
from services.common.runtime import s3_bucket
from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, InvalidInput, Unavailable, Unsupported
from services.common.runtime.open_store import open_store
from tests.integration.common.meddling_proxy import Meddling, meddling_proxy
from tests.support.s3_server import BUCKET, S3Server


@pytest.fixture
def network(s3_server: S3Server, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meddling]:
    """What lies between the store and the server."""
    with meddling_proxy(s3_server.port) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        yield meddling


@pytest.fixture
def store(network: Meddling, s3_root: str) -> ArtifactStore:
    return open_store(s3_root)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_bucket, "CALL_S", 1.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    for name in ("a", "b"):
        (tmp_path / "source" / name).write_text(name)
    return tmp_path / "source"


def test_a_writer_whose_answer_was_lost_knows_that_it_won(network, store):
    lost = []

    def lose_first(method: str, path: str, headers: object) -> bool:
        lost.append(path) if method == "PUT" else None
        return method == "PUT" and len(lost) == 1

    network.is_answer_lost = lose_first
    store.create("event", b"mine")
    assert len(lost) == 2
    with pytest.raises(AlreadyExists):
        store.create("event", b"mine")


def test_a_server_that_would_let_two_writers_win_is_refused(network, s3_root):
    def ignore(method: str, path: str, headers: dict) -> None:
        del headers["If-None-Match"]

    network.before = ignore
    with pytest.raises(Unsupported, match="If-None-Match"):
        open_store(s3_root)


def test_of_a_folder_whose_writer_was_cut_off_nobody_sees_anything(
    network, store, source, s3_server, s3_root, impatient
):
    network.is_lost = lambda method, path, headers: path.endswith("/b") or method == "DELETE"
    with pytest.raises(Unavailable, match="does not answer"):
        store.create_folder("bundles/x", source)
    network.is_lost = lambda *_: False
    assert any(key.endswith("/a") for key in s3_server.keys(s3_root.removeprefix(f"s3://{BUCKET}/")))
    assert not store.exists("bundles/x")
    assert list(store.list("bundles")) == []
    store.create_folder("bundles/x", source)
    assert list(store.list("bundles/x")) == ["a", "b"]


def test_files_of_a_folder_that_lost_the_race_are_cleared_away(store, source, s3_server, s3_root):
    (source / "late").symlink_to(source / "a")
    writers = [open_store(s3_root), store]
    original = writers[0]._bucket.put_file

    def overtake(key: str, file: Path) -> None:
        if file.name == "late":
            writers[1].create_folder("bundles/x", source)
        original(key, file)

    writers[0]._bucket.put_file = overtake
    with pytest.raises(AlreadyExists):
        writers[0].create_folder("bundles/x", source)
    keys = s3_server.keys(s3_root.removeprefix(f"s3://{BUCKET}/"))
    assert sorted(key.rsplit("/", 1)[1] for key in keys) == ["a", "b", "late", "x"]


def test_removed_folder_leaves_no_files(store, source, s3_server, s3_root):
    store.create_folder("bundles/x", source)
    store.remove("bundles")
    assert s3_server.keys(s3_root.removeprefix(f"s3://{BUCKET}/")) == []


def test_file_that_is_not_the_one_that_was_stored_is_not_handed_out(store, source, s3_server, s3_root):
    store.create_folder("bundles/x", source)
    key = next(key for key in s3_server.keys(s3_root.removeprefix(f"s3://{BUCKET}/")) if key.endswith("/a"))
    s3_server.client().put_object(Bucket=BUCKET, Key=key, Body=b"other")
    with pytest.raises(Unavailable, match="file 'a' is missing or not the one"), store.fetch("bundles/x"):
        pass


def test_folder_copied_with_other_tools_is_fetched_and_can_not_lead_out(store, s3_server, s3_root, tmp_path):
    prefix = s3_root.removeprefix(f"s3://{BUCKET}/")
    for name in ("good/", "good/config.json", "bad/../../config.json"):
        s3_server.client().put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=b"{}")
    with store.fetch("good") as folder:
        assert [file.name for file in folder.iterdir()] == ["config.json"]
    with pytest.raises(InvalidInput), store.fetch("bad"):
        pass


def test_server_that_is_away_is_unavailable_in_bounded_time(network, store, impatient):
    network.is_lost = lambda *_: True
    for use in (
        lambda: store.read("a"),
        lambda: store.create("a", b""),
        lambda: store.exists("a"),
        lambda: list(store.list("a")),
    ):
        start = time.monotonic()
        with pytest.raises(Unavailable, match=f"bucket '{BUCKET}' does not answer"):
            use()
        assert time.monotonic() - start < 5


def test_server_that_is_away_for_a_moment_is_waited_for(network, store):
    asked = []
    network.is_lost = lambda method, path, headers: asked.append(path) or len(asked) <= 3
    store.create("a", b"content")
    assert store.read("a") == b"content"


def test_nobody_at_the_address_is_unavailable(s3_root, monkeypatch, impatient):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="does not answer"):
        open_store(s3_root)


def test_denied_access_is_told_at_once(store, s3_server):
    s3_server.lock(True)
    try:
        start = time.monotonic()
        with pytest.raises(Unavailable, match=f"no access to bucket '{BUCKET}'.*expected credentials"):
            store.read("a")
        assert time.monotonic() - start < s3_bucket.CALL_S / 2
    finally:
        s3_server.lock(False)


def test_missing_credentials_are_told(s3_server, tmp_path):
    environment = s3_server.variables | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    assert "no access to bucket 'plumbline' (Unable to locate credentials)" in _open_apart(
        f"s3://{BUCKET}/a", environment
    )


def test_without_the_s3_packages_a_folder_opens_and_a_bucket_says_what_is_missing(tmp_path):
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    hide = "sys.modules['s3fs'] = None; "
    assert _open_apart(str(tmp_path), environment, hide) == ""
    assert "pip install 'plumbline[s3]'" in _open_apart("s3://bucket/prefix", environment, hide)


def _open_apart(root: str, environment: dict[str, str], before: str = "") -> str:
    """What opening the store says in a process of its own; "" when it opens."""
    code = f"import sys; {before}from services.common.runtime.open_store import open_store; open_store(sys.argv[1])"
    ended = subprocess.run(
        [sys.executable, "-c", code, root], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return ended.stderr if ended.returncode else ""


@pytest.mark.parametrize(
    "root",
    [
        "s3://nothing/prefix",
        "s3://",
        f"s3://{BUCKET}/{'n' * 65}",
        "s3://No_Such!/a",
        f"s3://{BUCKET}/../a",
        "gs://bucket/a",
        "",
    ],
)
def test_root_that_can_be_no_store_is_refused(s3_root, root):
    with pytest.raises(InvalidInput, match="store"):
        open_store(root)
