"""Artifact stores with something wrong."""

from __future__ import annotations

from services.common.runtime.folder_store import FolderStore


class FullStore(FolderStore):
    """A disk that takes nothing while `is_full`."""

    is_full = False

    def create(self, path: str, content: bytes) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().create(path, content)
