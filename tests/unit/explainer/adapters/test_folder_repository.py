"""The folder of what is served: versions come and go whole, and their numbers stay theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from services.common.runtime.errors import InvalidInput, NotFound
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.versions import LiveVersions
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    return FolderRepository(tmp_path / "models")


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
    assert not list((tmp_path / "models").glob(".incoming-*"))
