"""What is listed where a model's pointer can't be read. The repository is real."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.runtime.errors import Unavailable
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.listing import list_versions
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle


@pytest.mark.parametrize("file", ["champion.json", "shadow.json"])
async def test_a_model_whose_pointer_cannot_be_read_keeps_none_but_itself_from_being_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str
):
    write_bundle(tmp_path / "bundle")
    repository = FolderRepository(tmp_path / "models")
    for name in ("hips", "knees"):
        repository.set_champion(name, repository.add_version(name, tmp_path / "bundle", "key").version)
    (tmp_path / "models" / "knees" / file).write_text("")

    async def find(name: str) -> list[tuple[str, bool]]:
        listed = await list_versions(InProcessClassifier(), repository, name)
        return [(each.served.name, each.is_champion) for each in listed]

    assert await find("") == await find("") == await find("hips") == [("hips", True)]
    with pytest.raises(Unavailable, match=f"{file} of model 'knees'"):
        await find("knees")
    assert [(record.message, record.model) for record in caplog.records] == [("pointer is unreadable", "knees")]
