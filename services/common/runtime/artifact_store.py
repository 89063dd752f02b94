"""The record: immutable objects under relative paths, each created exactly once.

In a folder (`folder_store`) or an S3 bucket (`object_store`); `open_store` opens either, and one suite of tests holds both to this:

- Creation is exclusive. Of any number of writers of a name, in whatever process, exactly one wins, and the others are told: that is how
  a job's state moves without a lock.
- It is whole. Nobody sees half an object, or half a folder that was made by `create_folder`.
- What was created is read, found and listed by everybody from then on.
- Nothing is ever changed; only what is no part of the record is removed.

Every method raises `InvalidInput` for a path that `check_path` refuses, and `Unavailable` when the store can't be used: a disk that is full or refuses, a bucket that
can't be reached in time or does not let us in. Of a bucket a writer does not know then whether it has written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from errno import ENOENT
from pathlib import Path, PurePosixPath

from services.common.runtime.errors import InvalidInput

ASIDE = ".new-"
"""How names of things that are just being written start."""
FOLDERS = ".folders"
"""Where a bucket keeps the files of folders."""
MAX_PATH_BYTES = 900
"""S3 takes 1,024, and the prefix comes on top."""
_MAX_NAME_BYTES = 255


class ArtifactStore(ABC):
    """Objects under relative paths, with '/'."""

    @abstractmethod
    def create(self, path: str, content: bytes) -> None:
        """Write a new object.

        Raises
        ------
        AlreadyExists
            When there is something under this path, or an object where the path needs a folder; it is left as it is.
        """

    @abstractmethod
    def create_folder(self, path: str, source: Path) -> None:
        """Copy the folder `source` to a new `path`, all of it or nothing.

        Raises
        ------
        AlreadyExists
            When there is something under this path, or an object where the path needs a folder.
        FileNotFoundError
            When there is no folder `source`.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The object's bytes.

        Raises
        ------
        NotFound
            When there is none.
        """

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is an object or folder under `path`."""

    @abstractmethod
    def list(self, path: str) -> Iterator[str]:
        """Names directly below the folder `path`, sorted; none when it does not exist."""

    @abstractmethod
    def fetch(self, path: str) -> AbstractContextManager[Path]:
        """The object or folder on this machine's disk, for code that needs files, to be read and left as it is.

        Only until the block ends: what had to be brought here is removed then.

        Raises
        ------
        NotFound
            When there is none.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Take away an object, or a folder with all below it; nothing happens when there is none.

        An object, or a folder made by `create_folder`, goes at one moment; what else lies in a folder may go one after the other.

        Only for what the record can do without: a training's checkpoints are large, save time and say nothing that training again would not. A job's
        requests, events, critiques, numbers and bundles are what is answered for later, so they stay for good.
        """


def check_path(path: str) -> PurePosixPath:
    """`path` in its one spelling.

    Raises
    ------
    InvalidInput
        When it is empty, absolute, leaves the root, or holds a name that no store takes.
    """
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\x00" in path:
        raise InvalidInput("path", "expected a relative path below the store's root, without '..'")
    if any(part.startswith(ASIDE) or part == FOLDERS for part in pure.parts):
        raise InvalidInput("path", f"names that start with '{ASIDE}', and '{FOLDERS}', are the store's own")
    if len(path.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in pure.parts):
        raise InvalidInput("path", f"expected at most {MAX_PATH_BYTES} bytes, {_MAX_NAME_BYTES} in each name")
    return pure


def check_source(folder: Path) -> None:
    """Raise `FileNotFoundError` when there is no `folder` to be copied."""
    if not folder.is_dir():
        raise FileNotFoundError(ENOENT, "no such folder", str(folder))
