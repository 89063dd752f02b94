"""Which version a request means, also where the pointer has moved to one that this replica has not loaded yet. The repository is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.versions import LiveVersions
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    """Two versions of `net` with other weights; the first is the champion."""
    repository = FolderRepository(tmp_path / "models")
    for seed in (0, 1):
        write_bundle(tmp_path / f"bundle-{seed}", seed=seed)
        repository.add_version("net", tmp_path / f"bundle-{seed}", f"key-{seed}")
    repository.set_champion("net", 1)
    return repository


@pytest.fixture
def versions(repository: FolderRepository) -> LiveVersions:
    """Those of a replica that has the champion, which is one no more."""
    versions = LiveVersions(repository)
    versions.see_champion("net", 1)
    repository.set_champion("net", 2)
    return versions


def test_a_replica_that_has_seen_nothing_goes_by_the_pointer(repository):
    assert LiveVersions(repository).find("net", 0).version == 1


def test_champion_is_the_one_that_was_seen_until_the_next_is(versions):
    assert versions.find("net", 0).version == 1
    versions.see_champion("net", 2)
    assert versions.find("net", 0).version == 2


def test_a_late_word_of_the_champion_before_changes_nothing(versions):
    versions.see_champion("net", 2)
    versions.see_champion("net", 1)
    assert versions.find("net", 0).version == 2


def test_an_older_repository_in_the_place_of_the_one_that_was_seen_is_gone_by(versions, repository):
    versions.see_champion("net", 2)
    repository.remove_version("net", 2)
    repository.set_champion("net", 1)
    assert versions.find("net", 0).version == 1


def test_whoever_names_a_version_gets_that_one(versions):
    assert versions.find("net", 2).version == 2


@pytest.mark.parametrize("number", [1, 2])
def test_digest_of_either_champion_finds_it(versions, repository, number):
    assert versions.find("net", 0, repository.version("net", number).digest).version == number


def test_digest_of_neither_is_told_with_the_champions(versions, repository):
    champion = repository.version("net", 2)
    with pytest.raises(WrongState, match=rf"model\.digest: version 2 of 'net' is {champion.digest}, not sha256:x"):
        versions.find("net", 0, "sha256:x")


@pytest.mark.parametrize(
    ("name", "version", "error", "told"),
    [
        ("", 0, InvalidInput, r"model\.name"),
        ("net", -1, InvalidInput, r"model\.version"),
        ("other", 0, NotFound, r"model\.name: no model 'other'; there are: net"),
        ("net", 3, NotFound, r"model\.version: 'net' has no version 3 that can be read; it has 1, 2"),
    ],
)
def test_what_is_not_there_is_told_by_its_field(versions, name, version, error, told):
    with pytest.raises(error, match=told):
        versions.find(name, version)
