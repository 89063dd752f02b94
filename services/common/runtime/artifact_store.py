"""The record: immutable objects under relative paths, each created exactly once.

A folder for now. Creation is exclusive and atomic (written aside, then linked into place), so two writers can race for a name
and exactly one wins: that is how a job's state moves without a lock. Nothing is ever changed; only what is no part of the record is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound

_ASIDE = ".new-"
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024


class ArtifactStore:
    """Objects in a folder. Paths are relative, with '/', and can't leave the root."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root).resolve()

    def local_path(self, path: str) -> Path:
        """Where `path` lies on disk; it need not exist.

        Raises
        ------
        InvalidInput
            When `path` is empty, absolute, leaves the root, or holds a name that no file system takes.
        """
        pure = PurePosixPath(path)
        if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\x00" in path:
            raise InvalidInput("path", "expected a relative path below the store's root, without '..'")
        if any(part.startswith(_ASIDE) for part in pure.parts):
            raise InvalidInput("path", f"names that start with '{_ASIDE}' are for objects being written")
        if len(path.encode()) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in pure.parts):
            raise InvalidInput("path", f"expected at most {_MAX_PATH_BYTES} bytes, {_MAX_NAME_BYTES} in each name")
        full = (self._root / pure).resolve()
        if not full.is_relative_to(self._root):
            raise InvalidInput("path", "leads out of the store")
        return full

    def create(self, path: str, content: bytes) -> None:
        """Write a new object.

        Raises
        ------
        AlreadyExists
            When there is one under this path, or where the path needs a folder; it is left as it is.
        """
        target = self._make_room(path)
        descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=_ASIDE)
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
        """Copy the folder `source` to a new `path`, all of it or nothing.

        Raises
        ------
        AlreadyExists
            When there is something under this path, or an object where the path needs a folder.
        """
        target = self._make_room(path)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=_ASIDE))
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
        """The object's bytes.

        Raises
        ------
        NotFound
            When there is none.
        """
        try:
            return self.local_path(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFound(f"{path}: no such object") from error

    def exists(self, path: str) -> bool:
        """Whether there is an object or folder under `path`."""
        return self.local_path(path).exists()

    def list(self, path: str) -> Iterator[str]:
        """Names directly below the folder `path`, sorted; none when it does not exist."""
        folder = self.local_path(path)
        if folder.is_dir():
            yield from sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(_ASIDE))

    def remove(self, path: str) -> None:
        """Take away an object, or a folder with all below it, at one moment; nothing happens when there is none.

        Only for what the record can do without: a training's checkpoints are large, save time and say nothing that training again would not. A job's
        requests, events, critiques, numbers and bundles are what is answered for later, so they stay for good.
        """
        target = self.local_path(path)
        aside = target.with_name(f"{_ASIDE}{uuid.uuid4().hex}")
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
