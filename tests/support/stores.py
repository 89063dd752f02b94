"""Artifact stores with something wrong."""

from __future__ import annotations

from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore


class FullStore(FolderStore):
    """A disk that takes nothing while `is_full`."""

    is_full = False

    def create(self, path: str, content: bytes) -> None:
        if self.is_full:
            raise Unavailable(f"artifact store: {path} can't be read or written: No space left on device")
        super().create(path, content)
