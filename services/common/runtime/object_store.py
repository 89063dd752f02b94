"""The artifact store in an S3 bucket: one record for many pods.

<prefix>/<path>                     an object; or of a folder made whole, a small object that names its files, their sizes and SHA-256
<prefix>/.folders/<id>/<name>       those files, which nobody finds until that object is there

What is exclusive is a conditional write (`If-None-Match: *`), so the bucket's server must know it; `check` makes sure. The one thing that
a folder does and a bucket can't: an object `a` and an object `a/b` that are written at the same moment may both come to be, and something
may be written below a path at the moment when a folder is made there. No two writers of ours name things so. To a folder made whole
nothing is added. A writer that dies half-way leaves files below `.folders` that no object names: they cost space, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from services.common.runtime.artifact_store import ASIDE, FOLDERS, ArtifactStore, check_path, check_source
from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound, ServiceError, Unavailable, Unsupported
from services.common.runtime.s3_bucket import Bucket

_IS_FOLDER = "plumbline-folder"
_MAX_PREFIX_BYTES = 64
_KNOWN_COUNT = 10_000


@dataclass(frozen=True)
class _File:
    """One file of a folder made whole."""

    byte_count: int
    sha256: str


@dataclass(frozen=True)
class _Folder:
    """A folder made whole: where its files lie, and which there are."""

    at: str
    files: Mapping[str, _File]

    @classmethod
    def from_json(cls, content: bytes) -> _Folder:
        told = json.loads(content)
        return cls(told["at"], {name: _File(**file) for name, file in told["files"].items()})

    def names_below(self, inner: str) -> set[str]:
        """Names directly below `inner`, "" for the folder itself."""
        start = f"{inner}/" if inner else ""
        return {name.removeprefix(start).split("/")[0] for name in self.files if name.startswith(start)}


class ObjectStore(ArtifactStore):
    """Objects under `prefix` of an S3 bucket.

    Methods raise what `Bucket`'s do, too.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        """
        Raises
        ------
        InvalidInput
            At `store`, when bucket or prefix can be none.
        """
        prefix = prefix.strip("/")
        if not bucket or len(prefix.encode()) > _MAX_PREFIX_BYTES:
            raise InvalidInput("store", f"expected s3://bucket/prefix, the prefix of at most {_MAX_PREFIX_BYTES} bytes")
        self._bucket = Bucket(bucket)
        try:
            self._start = f"{check_path(prefix)}/" if prefix else ""
        except InvalidInput as error:
            raise InvalidInput("store", f"its prefix: {error.description}") from error
        # Below these lies something, so nobody makes them an object or a whole folder. To forget them costs look-ups.
        self._plain: set[PurePosixPath] = set()

    def check(self) -> None:
        """Make sure that the bucket is there, lets us in and creates exclusively.

        Raises
        ------
        Unsupported
            When it writes over what is there though asked not to: two workers would take one job.
        """
        key = f"{self._start}{ASIDE}{uuid.uuid4().hex}"
        is_new, is_new_again = self._bucket.put_new(key, b""), self._bucket.put_new(key, b"")
        self._bucket.delete(key)
        if not is_new or is_new_again:
            raise Unsupported(
                "artifact store: the bucket's server ignores 'If-None-Match: *', so it can't hold the record"
            )

    def create(self, path: str, content: bytes) -> None:
        """See the interface."""
        pure = self._check_room(path)
        if not self._bucket.put_new(self._key(pure), content):
            raise AlreadyExists(f"{path}: there is such an object, and objects never change")
        self._remember_parents(pure)

    def create_folder(self, path: str, source: Path) -> None:
        """See the interface."""
        check_source(source)
        pure = self._check_room(path)
        if self._bucket.marks(self._key(pure)) is not None:
            raise AlreadyExists(f"{path}: there is something, and objects never change")
        folder = self._upload(pure, source)
        if not self._bucket.put_new(self._key(pure), _to_json(folder), {_IS_FOLDER: "1"}):
            self._delete_files(folder)
            raise AlreadyExists(f"{path}: there is such a folder, and objects never change")
        self._remember_parents(pure)

    def read(self, path: str) -> bytes:
        """See the interface."""
        pure = check_path(path)
        found = self._bucket.get(self._key(pure))
        if found is not None and _IS_FOLDER not in found[1]:
            self._remember_parents(pure)
            return found[0]
        folder, inner = self._find_folder(pure) if found is None else (None, "")
        content = self._bucket.get(self._file_key(folder, inner)) if folder and inner in folder.files else None
        if content is None:
            raise NotFound(f"{path}: no such object")
        return content[0]

    def exists(self, path: str) -> bool:
        """See the interface."""
        pure = check_path(path)
        if self._bucket.marks(self._key(pure)) is not None or self._bucket.has_below(f"{self._key(pure)}/"):
            self._remember_parents(pure)
            return True
        folder, inner = self._find_folder(pure)
        return folder is not None and (inner in folder.files or bool(folder.names_below(inner)))

    def list(self, path: str) -> Iterator[str]:
        """See the interface."""
        pure = check_path(path)
        names = self._bucket.names(f"{self._key(pure)}/")
        if names:
            self._remember_parents(pure / "any")
        else:
            folder, inner = self._find_folder(pure)
            names = folder.names_below(inner) if folder else set()
        return iter(sorted(names))

    @contextmanager
    def fetch(self, path: str) -> Iterator[Path]:
        """See the interface: a copy in a temporary folder, each file of a whole folder held against its SHA-256.

        Raises
        ------
        Unavailable
            When a file is not the one that was stored.
        """
        pure = check_path(path)
        with tempfile.TemporaryDirectory(prefix="plumbline-") as temporary:
            target = Path(temporary) / pure.name
            if not self._download(pure, target):
                raise NotFound(f"{path}: no such object or folder")
            yield target

    def remove(self, path: str) -> None:
        """See the interface."""
        pure = check_path(path)
        inner = [pure / name for name in self._bucket.below(f"{self._key(pure)}/")]
        for each in [pure, *inner]:
            folder = self._read_folder(each)
            self._bucket.delete(self._key(each))
            if folder:
                self._delete_files(folder)
        self._plain.clear()

    def _check_room(self, path: str) -> PurePosixPath:
        pure = check_path(path)
        for parent in self._unknown_parents(pure):
            if self._bucket.marks(self._key(parent)) is not None:
                raise AlreadyExists(f"{path}: there is an object, or a whole folder, where this path needs a folder")
        if self._bucket.has_below(f"{self._key(pure)}/"):
            raise AlreadyExists(f"{path}: there is a folder, and objects never change")
        return pure

    def _upload(self, pure: PurePosixPath, source: Path) -> _Folder:
        """The files of `source` under a place of their own; nothing is left there when one can't be read."""
        files: dict[str, _File] = {}
        folder = _Folder(uuid.uuid4().hex, files)
        try:
            for file in sorted(path for path in source.rglob("*") if path.is_file()):
                name = file.relative_to(source).as_posix()
                check_path(f"{pure}/{name}")
                with file.open("rb") as content:
                    digest = hashlib.file_digest(content, "sha256").hexdigest()
                files[name] = _File(file.stat().st_size, digest)
                self._bucket.put_file(self._file_key(folder, name), file)
        except BaseException:
            with contextlib.suppress(ServiceError):
                self._delete_files(folder)
            raise
        return folder

    def _download(self, pure: PurePosixPath, target: Path) -> bool:
        wanted = self._find_files(pure)
        if wanted is None:
            return False
        if "" not in wanted:
            target.mkdir()
        for name, (key, sha256) in wanted.items():
            file = target / check_path(name) if name else target
            file.parent.mkdir(parents=True, exist_ok=True)
            found = self._bucket.download(key, file)
            if found is None or (sha256 and found != sha256):
                raise Unavailable(f"artifact store: {pure}: file '{name}' is missing or not the one that was stored")
        return True

    def _find_files(self, pure: PurePosixPath) -> dict[str, tuple[str, str]] | None:
        """Key and SHA-256 of each file in a folder by its name there, or of an object by the name ""; the SHA-256 is "" where none is known."""
        folder, inner = self._find_folder(pure)
        if folder and inner in folder.files:
            return {"": (self._file_key(folder, inner), folder.files[inner].sha256)}
        if folder:
            start = f"{inner}/" if inner else ""
            files = {
                name.removeprefix(start): (self._file_key(folder, name), file.sha256)
                for name, file in folder.files.items()
                if name.startswith(start)
            }
            return files if files or not inner else None
        if self._bucket.marks(self._key(pure)) is not None:
            return {"": (self._key(pure), "")}
        # A plain folder, which somebody may have copied here with other tools.
        files = {}
        for name in self._bucket.below(f"{self._key(pure)}/"):
            inside = self._find_files(pure / name) or {}
            files |= {f"{name}/{deeper}" if deeper else name: file for deeper, file in inside.items()}
        return files or None

    def _find_folder(self, pure: PurePosixPath) -> tuple[_Folder | None, str]:
        """The whole folder that `pure` is or lies in, and the rest of the path there."""
        for each in [pure, *self._unknown_parents(pure)]:
            folder = self._read_folder(each)
            if folder:
                return folder, "" if each == pure else pure.relative_to(each).as_posix()
        return None, ""

    def _read_folder(self, pure: PurePosixPath) -> _Folder | None:
        if _IS_FOLDER not in (self._bucket.marks(self._key(pure)) or {}):
            return None
        found = self._bucket.get(self._key(pure))
        return _Folder.from_json(found[0]) if found else None

    def _delete_files(self, folder: _Folder) -> None:
        for name in folder.files:
            self._bucket.delete(self._file_key(folder, name))

    def _unknown_parents(self, pure: PurePosixPath) -> list[PurePosixPath]:
        """Nearest first."""
        return [parent for parent in list(pure.parents)[:-1] if parent not in self._plain]

    def _remember_parents(self, pure: PurePosixPath) -> None:
        if len(self._plain) > _KNOWN_COUNT:
            self._plain.clear()
        self._plain.update(list(pure.parents)[:-1])

    def _key(self, pure: PurePosixPath) -> str:
        return f"{self._start}{pure}"

    def _file_key(self, folder: _Folder, name: str) -> str:
        return f"{self._start}{FOLDERS}/{folder.at}/{name}"


def _to_json(folder: _Folder) -> bytes:
    return json.dumps(asdict(folder), indent=1).encode()
