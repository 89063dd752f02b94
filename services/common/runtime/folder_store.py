"""The artifact store in a folder: on one machine, or on a volume that all pods share.

What is created is written aside, then linked or renamed into place, and on the disk before that is told. What the disk refuses, as when it is full, is `Unavailable`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.runtime.artifact_store import ASIDE, ArtifactStore, check_path, check_source
from services.common.runtime.durable import flush
from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound, Unavailable


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
        try:
            full = (self._root / check_path(path)).resolve()
        except RuntimeError as error:  # Python's, and no OSError
            raise InvalidInput("path", "links lead in a circle") from error
        if not full.is_relative_to(self._root):
            raise InvalidInput("path", "leads out of the store")
        return full

    def create(self, path: str, content: bytes) -> None:
        """See the interface."""
        with _refusals_told(path):
            target = self._make_room(path)
            descriptor, aside = tempfile.mkstemp(dir=target.parent, prefix=ASIDE)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(aside, target)
                flush(target.parent)
            except FileExistsError as error:
                raise AlreadyExists(f"{path}: there is such an object, and objects never change") from error
            finally:
                Path(aside).unlink()

    def create_folder(self, path: str, source: Path) -> None:
        """See the interface."""
        check_source(source)
        with _refusals_told(path):
            target = self._make_room(path)
            aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=ASIDE))
            try:
                _copy(source, aside)
                aside.chmod(0o755)
                for folder in (aside, *(path for path in aside.rglob("*") if path.is_dir())):
                    flush(folder)
                if target.exists():
                    # A rename would refuse a full folder, but replace an empty one without a word.
                    raise FileExistsError(target)
                aside.rename(target)
                flush(target.parent)
            except OSError as error:
                if target.exists():
                    raise AlreadyExists(f"{path}: there is such a folder, and objects never change") from error
                raise
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def read(self, path: str) -> bytes:
        """See the interface."""
        with _refusals_told(path):
            try:
                return self.local_path(path).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise NotFound(f"{path}: no such object") from error

    def exists(self, path: str) -> bool:
        """See the interface."""
        with _refusals_told(path):
            return self.local_path(path).exists()

    def list(self, path: str) -> Iterator[str]:
        """See the interface."""
        with _refusals_told(path):
            try:
                names = [entry.name for entry in self.local_path(path).iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                names = []
        return iter(sorted(name for name in names if not name.startswith(ASIDE)))

    @contextmanager
    def fetch(self, path: str) -> Iterator[Path]:
        """See the interface: the object or folder itself."""
        if not self.exists(path):
            raise NotFound(f"{path}: no such object or folder")
        yield self.local_path(path)

    def remove(self, path: str) -> None:
        """See the interface. A folder too goes at one moment."""
        with _refusals_told(path):
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


def _copy(source: Path, target: Path) -> None:
    """All files of `source`. The first refusal ends it; shutil's `copytree` would try the others, and lose the system's words."""
    for file in (path for path in source.rglob("*") if path.is_file()):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as reader, copy.open("xb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())  # a network disk may tell only then that it is full


@contextmanager
def _refusals_told(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # The system's words alone: its text has paths of this machine.
        cause = error.strerror or type(error).__name__
        raise Unavailable(
            f"artifact store: {path} can't be read or written: {cause}; what waits for it is tried again"
        ) from error
