"""The artifact store in a folder: on one machine, or on a volume that all pods share.

What is created is written aside, then linked or renamed into place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.runtime.artifact_store import ASIDE, ArtifactStore, check_path
from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound


class FolderStore(ArtifactStore):
    """Objects as files below `root`; no path leaves it, through a link either."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root).resolve()

    def local_path(self, path: str) -> Path:
        """Where `path` lies on disk; it need not exist.

        Raises
        ------
        InvalidInput
            When it can be no path, or a link leads out of the store.
        """
        full = (self._root / check_path(path)).resolve()
        if not full.is_relative_to(self._root):
            raise InvalidInput("path", "leads out of the store")
        return full

    def create(self, path: str, content: bytes) -> None:
        """See the interface."""
        target = self._make_room(path)
        descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=ASIDE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, target)
        except FileExistsError as error:
            raise AlreadyExists(f"{path}: there is such an object, and objects never change") from error
        finally:
            Path(aside).unlink()

    def create_folder(self, path: str, source: Path) -> None:
        """See the interface."""
        target = self._make_room(path)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=ASIDE))
        try:
            shutil.copytree(source, aside, dirs_exist_ok=True)
            aside.chmod(0o755)
            if target.exists():
                # A rename would refuse a full folder, but replace an empty one without a word.
                raise FileExistsError(target)
            aside.rename(target)
        except OSError as error:
            if target.exists():
                raise AlreadyExists(f"{path}: there is such a folder, and objects never change") from error
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def read(self, path: str) -> bytes:
        """See the interface."""
        try:
            return self.local_path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound(f"{path}: no such object") from error

    def exists(self, path: str) -> bool:
        """See the interface."""
        return self.local_path(path).exists()

    def list(self, path: str) -> Iterator[str]:
        """See the interface."""
        folder = self.local_path(path)
        if folder.is_dir():
            yield from sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(ASIDE))

    @contextmanager
    def fetch(self, path: str) -> Iterator[Path]:
        """See the interface: the object or folder itself."""
        local = self.local_path(path)
        if not local.exists():
            raise NotFound(f"{path}: no such object or folder")
        yield local

    def remove(self, path: str) -> None:
        """See the interface. A folder too goes at one moment."""
        target = self.local_path(path)
        aside = target.with_name(f"{ASIDE}{uuid.uuid4().hex}")
        try:
            target.rename(aside)
        except (FileNotFoundError, NotADirectoryError):
            return
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)

    def _make_room(self, path: str) -> Path:
        """Where `path` will lie, its folder made."""
        target = self.local_path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise AlreadyExists(f"{path}: there is an object where this path needs a folder") from error
        return target
