"""The folder of what is served: versions come and go whole, and their numbers stay theirs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.runtime.errors import InvalidInput, NotFound, Unavailable
from services.explainer.adapters import folder_repository
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import ShadowPointer
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    return FolderRepository(tmp_path / "models")


class _PowerCut(BaseException):
    """What nothing in the process survives."""


def die(*_: object) -> None:
    raise _PowerCut


def find_asides(root: Path) -> list[str]:
    """Of each that is there, the model that it is of."""
    return sorted(path.name.split(".")[1] for path in (root / "models").iterdir() if ".aside-" in path.name)


async def hold(repository: FolderRepository, timeout_s: float) -> None:
    async with repository.publishing("net", timeout_s):
        pass


def test_added_version_is_read_as_it_was_added(repository, bundle, tmp_path):
    added = repository.add_version("net", bundle, "key")
    assert FolderRepository(tmp_path / "models").version("net", 1) == added
    assert added.digest == write_bundle(tmp_path / "same")


def test_digest_is_the_one_that_was_written_when_the_version_was_added(repository, bundle, tmp_path):
    digest = repository.add_version("net", bundle, "key").digest
    (tmp_path / "models" / "net" / "1" / "bundle" / "model.safetensors").write_bytes(b"")
    assert repository.version("net", 1).digest == digest


def test_version_from_before_the_digest_was_kept_is_hashed(repository, bundle, tmp_path):
    digest = repository.add_version("net", bundle, "key").digest
    (tmp_path / "models" / "net" / "1" / "publication.json").write_text(json.dumps({"key": "key"}))
    assert repository.version("net", 1).digest == digest


@pytest.mark.parametrize("file", ["publication.json", "bundle/config.json", "bundle/preprocessor_config.json"])
def test_version_that_cannot_be_read_does_not_take_the_others_along(repository, bundle, tmp_path, file):
    repository.add_version("net", bundle, "one")
    shutil.copytree(tmp_path / "models" / "net" / "1", tmp_path / "models" / "net" / "2")
    (tmp_path / "models" / "net" / "2" / file).write_text("{")
    repository.add_version("net", bundle, "three")
    assert [version.version for version in repository.versions("net")] == [1, 3]
    assert LiveVersions(repository).find("net", 3).publication_key == "three"
    with pytest.raises(NotFound, match=r"model\.version"):
        LiveVersions(repository).find("net", 2)


def test_no_number_is_used_twice(repository, bundle):
    repository.add_version("net", bundle, "one")
    repository.add_version("net", bundle, "two")
    repository.remove_version("net", 2)
    assert repository.add_version("net", bundle, "three").version == 3


def test_last_version_takes_its_model_along_but_not_its_number(repository, bundle):
    repository.add_version("net", bundle, "one")
    repository.remove_version("net", 1)
    assert repository.names() == []
    assert repository.add_version("net", bundle, "two").version == 2


def test_version_of_another_size_is_taken(repository, bundle, tmp_path):
    repository.add_version("net", bundle, "one")
    write_bundle(tmp_path / "larger", side_px=8)
    assert repository.add_version("net", tmp_path / "larger", "two").preprocessor.height_px == 8


def test_version_with_other_labels_is_refused_and_leaves_nothing(repository, bundle, tmp_path):
    repository.add_version("net", bundle, "one")
    write_bundle(tmp_path / "other", labels=("a", "c"))
    with pytest.raises(InvalidInput, match="labels"):
        repository.add_version("net", tmp_path / "other", "two")
    assert repository.numbers("net") == [1]
    assert find_asides(tmp_path) == []


def test_model_that_another_replica_removes_while_it_is_read_has_no_versions(repository, bundle, monkeypatch):
    repository.add_version("net", bundle, "one")

    iterdir = Path.iterdir

    def remove_first(folder: Path) -> Iterator[Path]:
        if folder.name == "net":
            shutil.rmtree(folder, ignore_errors=True)
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", remove_first)
    assert repository.names() == []


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
@pytest.mark.parametrize(
    ("file", "read"), [("champion.json", FolderRepository.champion), ("shadow.json", FolderRepository.shadow)]
)
def test_pointer_that_cannot_be_read_is_told_with_its_model_and_logged_once(
    repository, bundle, tmp_path, caplog, file, read, content
):
    repository.add_version("net", bundle, "one")
    (tmp_path / "models" / "net" / file).write_text(content)
    for _ in range(2):
        with pytest.raises(Unavailable, match=f"{file} of model 'net' can't be read"):
            read(repository, "net")
    assert [(record.message, record.model, record.file) for record in caplog.records] == [
        ("pointer is unreadable", "net", file)
    ]


def test_number_is_not_guessed_where_the_highest_cannot_be_read(repository, bundle, tmp_path):
    repository.add_version("net", bundle, "one")
    (tmp_path / "models" / ".net.highest.json").write_text("")
    with pytest.raises(Unavailable, match=r"highest\.json of model 'net'"):
        repository.add_version("net", bundle, "two")


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is flushed, and what is renamed into place, in their order. Names of what is aside are left out."""
    steps: list[tuple[str, str]] = []
    replace = Path.replace

    def tell(path: Path) -> str:
        inside = path.relative_to(tmp_path / "models").parts
        return "/".join("aside" if ".aside-" in part else part for part in inside) or "root"

    def flush(descriptor: int) -> None:
        steps.append(("flushed", tell(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def rename(path: Path, target: Path) -> Path:
        steps.append(("renamed", tell(target)))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    return steps


@pytest.mark.parametrize("file", ["champion.json", "shadow.json"])
def test_pointer_is_on_the_disk_before_it_is_in_its_place(repository, bundle, steps, file):
    repository.add_version("net", bundle, "one")
    steps.clear()
    if file == "champion.json":
        repository.set_champion("net", 1)
    else:
        repository.set_shadow("net", ShadowPointer(1, (1,), 1))
    assert steps == [("flushed", "aside"), ("renamed", f"net/{file}"), ("flushed", "net")]


def test_every_file_of_a_version_is_on_the_disk_before_it_is_in_its_place(repository, bundle, steps):
    repository.add_version("net", bundle, "one")
    number, rest = steps[:3], steps[3:]
    assert number == [("flushed", "aside"), ("renamed", ".net.highest.json"), ("flushed", "root")]
    files = {f"aside/bundle/{path.name}" for path in bundle.iterdir()}
    renamed = rest.index(("renamed", "net/1"))
    assert {name for _, name in rest[:renamed]} == {"aside", "aside/bundle", "aside/publication.json"} | files
    assert rest[renamed + 1 :] == [("flushed", "net"), ("flushed", "root")]


def test_pointer_that_the_disk_refuses_leaves_the_one_before_and_nothing_else(
    repository, bundle, tmp_path, monkeypatch
):
    repository.set_champion("net", repository.add_version("net", bundle, "one").version)

    def refuse(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(folder_repository, "flush", refuse)
        with pytest.raises(OSError, match="No space"):
            repository.set_champion("net", 2)
    assert (repository.champion("net"), find_asides(tmp_path)) == (1, [])


def test_what_a_dead_publisher_left_goes_at_the_next_publication_of_its_model(
    repository, bundle, tmp_path, monkeypatch
):
    for name in ("net", "net-2"):
        repository.add_version(name, bundle, "one")
    with monkeypatch.context() as dead:
        dead.setattr(folder_repository, "_discard", lambda path: None)
        dead.setattr(folder_repository, "bundle_digest", die)
        for name in ("net", "net-2"):
            with pytest.raises(_PowerCut):
                repository.add_version(name, bundle, "two")
        dead.setattr(folder_repository, "flush", die)
        with pytest.raises(_PowerCut):
            repository.set_champion("net", 1)
        repository.remove_version("net", 1)
    assert find_asides(tmp_path) == ["net", "net", "net", "net-2"]
    repository.add_version("net", bundle, "three")
    assert find_asides(tmp_path) == ["net-2"]


async def test_whoever_waits_for_the_lock_holds_no_thread(repository):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with repository.publishing("net", 5):
        waiting = [asyncio.create_task(hold(repository, 5)) for _ in range(3)]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(2):
            await asyncio.to_thread(int)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_whoever_waits_too_long_for_the_lock_is_told_so(repository):
    async with repository.publishing("net", 5):
        with pytest.raises(Unavailable, match="another version of net is being published"):
            await hold(repository, 0.2)
    await hold(repository, 0)


async def test_whoever_leaves_while_waiting_for_the_lock_does_not_take_it(repository):
    async with repository.publishing("net", 5):
        waiting = asyncio.create_task(hold(repository, 5))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await hold(repository, 0)
