"""A model's way from a folder through a bucket to the served version, without Triton."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.stack.bundles import store_bundle
from services.common.runtime.audit_log import AuditAction, AuditLog
from services.common.runtime.errors import InvalidInput
from services.common.runtime.open_store import open_store
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture
def publishing(tmp_path: Path, s3_root: str) -> Publishing:
    store, repository = open_store(s3_root), FolderRepository(tmp_path / "models")
    announcing = Announcing(AuditLog(store), repository)
    classifier, versions = InProcessClassifier(), LiveVersions(repository)
    return Publishing(classifier, repository, store, announcing, versions, Verifying(classifier, 30), 30)


async def test_a_bundle_that_was_added_to_a_bucket_is_served_told_of_and_not_left_in_temporary_files(
    tmp_path: Path, s3_root: str, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    write_bundle(tmp_path / "bundle", 0)
    path, digest = store_bundle(s3_root, "net", tmp_path / "bundle")
    assert store_bundle(s3_root, "net", tmp_path / "bundle") == (path, digest)
    served = await publishing.publish("net", path, 0, "key")
    assert (served.version, served.digest) == (1, digest)
    event = AuditLog(open_store(s3_root)).read(1)
    assert (event.action, event.lineage.model_digest) == (AuditAction.MODEL_PUBLISHED, digest)
    assert list((tmp_path / "temporary").glob("plumbline-*")) == []


async def test_what_is_no_folder_of_the_bucket_is_refused(s3_root: str, publishing: Publishing):
    open_store(s3_root).create("object", b"")
    for path in ("object", "nothing"):
        with pytest.raises(InvalidInput, match="in the artifact store"):
            await publishing.publish("net", path, 0, "key")
