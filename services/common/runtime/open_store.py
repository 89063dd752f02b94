"""Open the artifact store that a setting names."""

from __future__ import annotations

from pathlib import Path

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import InvalidInput, Unsupported
from services.common.runtime.folder_store import FolderStore

_S3 = "s3://"


def open_store(root: str | Path) -> ArtifactStore:
    """The store at `root`: a folder, or s3://bucket or s3://bucket/prefix with endpoint and credentials from the AWS variables and files.

    Raises
    ------
    InvalidInput
        When `root` is neither, or there is no such bucket.
    Unsupported
        When the S3 packages are missing, or the bucket's server can't create an object exclusively.
    Unavailable
        When the bucket can't be reached, or does not let us in.
    """
    text = str(root)
    if text.startswith(_S3):
        try:
            from services.common.runtime.object_store import ObjectStore
        except ImportError as error:
            raise Unsupported(
                f"artifact store: {error.name} is missing for {text}: pip install 'plumbline[s3]'"
            ) from error
        bucket, _, prefix = text.removeprefix(_S3).partition("/")
        store = ObjectStore(bucket, prefix)
        store.check()
        return store
    if not text or "://" in text:
        raise InvalidInput("store", f"expected a folder or s3://bucket/prefix, got '{text}'")
    return FolderStore(Path(text))
