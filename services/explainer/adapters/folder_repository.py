"""The `ModelRepository` port on a folder, which the inference server reads too.

    <root>/<name>/champion.json             the version that requests without one reach
    <root>/<name>/shadow.json               the version that answers a share of them too, unseen, and those that were served for that alone
    <root>/<name>/<version>/bundle/         the model bundle
    <root>/<name>/<version>/publication.json  who made it: the publication's key, the bundle's digest, the version that a rollback repeats, whether as a shadow
    <root>/.<name>.highest.json             the highest number that a version ever had
    <root>/.<name>.aside-*                  what is on its way in or out, or was when its process died
    <root>/.<name>.lock                     held by the one who writes any of these

Everything but the pointers and the highest number is immutable. All is written aside, flushed to the disk and renamed into place, so that a
power cut leaves it whole. No number is used twice, for other processes keep what they read of a version.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import filelock

from services.common.runtime.durable import flush
from services.common.runtime.errors import InvalidInput, Unavailable
from services.common.vision.model_bundle import bundle_digest, describe_bundle
from services.explainer.ports import ServedVersion, ShadowPointer

log = logging.getLogger(__name__)

_Content = TypeVar("_Content")

_CHAMPION = "champion.json"
_SHADOW = "shadow.json"
_PUBLICATION = "publication.json"
_BUNDLE = "bundle"
_HIGHEST = ".{name}.highest.json"
_ASIDE = ".{name}.aside-"  # no name has a dot, so none is the beginning of another's
_LOCK_PAUSE_S = 0.1


class FolderRepository:
    """Model repository under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._unreadable: set[Path] = set()
        self._root.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """See the port."""
        # A leading dot marks what is on its way in or out.
        return sorted(
            folder.name
            for folder in self._root.iterdir()
            if not folder.name.startswith(".") and self.numbers(folder.name)
        )

    def numbers(self, name: str) -> list[int]:
        """See the port."""
        try:
            return sorted(int(entry.name) for entry in (self._root / name).iterdir() if entry.name.isdecimal())
        except (FileNotFoundError, NotADirectoryError):  # also where another replica has just removed it
            return []

    def version(self, name: str, number: int) -> ServedVersion | None:
        """See the port."""
        folder = self._root / name
        if not (folder / str(number)).is_dir():
            return None
        try:
            return _read_version(folder, number)
        except Exception as error:
            # Whatever is wrong in one folder must not take the others along.
            told = {"model": name, "version": number}
            self._say_once(folder / str(number), "version is unreadable", told, error)
            return None

    def versions(self, name: str) -> list[ServedVersion]:
        """See the port."""
        found = (self.version(name, number) for number in self.numbers(name))
        return [version for version in found if version]

    def champion(self, name: str) -> int:
        """See the port.

        Raises
        ------
        Unavailable
            When the pointer can't be read. It must not pass for 0: then no version would count as verified, and all would be removed.
        """
        return self._read(name, self._root / name / _CHAMPION, _read_number, 0)

    def set_champion(self, name: str, version: int) -> None:
        """See the port."""
        self._replace(name, self._root / name / _CHAMPION, {"version": version})

    def shadow(self, name: str) -> ShadowPointer:
        """See the port.

        Raises
        ------
        Unavailable
            When the pointer can't be read.
        """
        return self._read(name, self._root / name / _SHADOW, _read_shadow, ShadowPointer())

    def set_shadow(self, name: str, pointer: ShadowPointer) -> None:
        """See the port."""
        self._replace(name, self._root / name / _SHADOW, asdict(pointer))

    def highest(self, name: str) -> int:
        """See the port.

        Raises
        ------
        Unavailable
            When the number can't be read.
        """
        before = self._read(name, self._root / _HIGHEST.format(name=name), _read_number, 0)
        return max([before, *self.numbers(name)])

    def bundle(self, name: str, version: int) -> Path:
        """See the port."""
        return self._root / name / str(version) / _BUNDLE

    def add_version(
        self, name: str, bundle: Path, publication_key: str, repeats_version: int = 0, as_shadow: bool = False
    ) -> ServedVersion:
        """See the port. What dead publishers of the model left goes: the caller holds the publishing lock, as all who write anything of a model do.

        Raises
        ------
        InvalidInput
            When the bundle's labels differ from the versions before: callers name classes, and so do comparisons and gates.
        """
        self._sweep(name)
        folder = self._root / name
        versions = self.versions(name)
        number = self._take_number(name)
        aside = self._aside(name)
        try:
            shutil.copytree(bundle, aside / _BUNDLE)
            publication = {
                "key": publication_key,
                "digest": bundle_digest(aside / _BUNDLE),
                "repeats_version": repeats_version,
                "as_shadow": as_shadow,
            }
            (aside / _PUBLICATION).write_text(json.dumps(publication))
            fresh = _describe(aside, name, number)
            if versions:
                _check_same_meaning(versions[-1], fresh)
            for path in (aside, *aside.rglob("*")):
                flush(path)
            folder.mkdir(exist_ok=True)
            aside.replace(folder / str(number))
            flush(folder)
            flush(self._root)
        finally:
            _discard(aside)
        return fresh

    def remove_version(self, name: str, version: int) -> None:
        """See the port. The last version takes its model along."""
        is_last = self.numbers(name) == [version]
        leaving = self._root / name if is_last else self._root / name / str(version)
        # Renamed first: nobody may read, or load, a folder that is half gone.
        _discard(leaving.replace(self._aside(name)))

    @asynccontextmanager
    async def publishing(self, name: str, timeout_s: float) -> AsyncIterator[None]:
        """See the port. Who waits holds no thread: the lock's holder needs them, and so do all other calls.

        Raises
        ------
        Unavailable
            When another publisher keeps the lock for longer than `timeout_s`.
        """
        lock = filelock.FileLock(self._root / f".{name}.lock")
        try:
            async with asyncio.timeout(timeout_s):
                # A try takes as long as any look into the folder, and nothing can cancel it between taking the lock and the block below.
                while not _take(lock):
                    await asyncio.sleep(_LOCK_PAUSE_S)
        except TimeoutError as error:
            raise Unavailable(f"another version of {name} is being published; try again") from error
        try:
            yield
        finally:
            lock.release()

    def _take_number(self, name: str) -> int:
        """A number that no version of the model ever had, the removed ones counted."""
        number = self.highest(name) + 1
        self._replace(name, self._root / _HIGHEST.format(name=name), {"version": number})
        return number

    def _read(self, name: str, path: Path, read: Callable[[Any], _Content], missing: _Content) -> _Content:
        """What `read` makes of the JSON in a file of the model; `missing` when there is no file. `Unavailable` when it can't be read."""
        try:
            return read(json.loads(path.read_text()))
        except FileNotFoundError:
            return missing
        except Exception as error:
            self._say_once(path, "pointer is unreadable", {"model": name, "file": path.name}, error)
            # The system's words alone: its text has paths of this machine.
            cause = (isinstance(error, OSError) and error.strerror) or repr(error)
            raise Unavailable(f"{path.name} of model '{name}' can't be read: {cause}") from error

    def _say_once(self, path: Path, message: str, told: dict[str, Any], error: Exception) -> None:
        """Once per process: the reconciler asks every second."""
        if path not in self._unreadable:
            log.error(message, extra=told, exc_info=error)
            self._unreadable.add(path)

    def _replace(self, name: str, path: Path, content: dict[str, Any]) -> None:
        aside = self._aside(name)
        try:
            aside.write_text(json.dumps(content))
            flush(aside)
            aside.replace(path)
            flush(path.parent)
        finally:
            _discard(aside)

    def _aside(self, name: str) -> Path:
        return self._root / f"{_ASIDE.format(name=name)}{uuid.uuid4().hex}"

    def _sweep(self, name: str) -> None:
        for left in self._root.glob(f"{_ASIDE.format(name=name)}*"):
            log.info("leftover of a dead publisher removed", extra={"model": name, "file": left.name})
            _discard(left)


def _take(lock: filelock.BaseFileLock) -> bool:
    """Whether `lock` could be taken at once."""
    with suppress(filelock.Timeout):
        lock.acquire(blocking=False)
    return lock.is_locked


def _discard(path: Path) -> None:
    """Remove a file or folder, if it is there. What the disk keeps back is for the next sweep, and no reason to fail."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _read_number(content: Any) -> int:
    return int(content["version"])


def _read_shadow(content: Any) -> ShadowPointer:
    return ShadowPointer(content["version"], tuple(content["verified"]), content["change_count"])


@lru_cache(maxsize=256)
def _read_version(folder: Path, number: int) -> ServedVersion:
    # Versions never change, so what was read once holds.
    return _describe(folder / str(number), folder.name, number)


def _describe(folder: Path, name: str, number: int) -> ServedVersion:
    bundle = folder / _BUNDLE
    described = describe_bundle(bundle)
    publication = json.loads((folder / _PUBLICATION).read_text())
    return ServedVersion(
        name=name,
        version=number,
        # Versions from before the digest was kept: their weights are read once.
        digest=publication.get("digest") or bundle_digest(bundle),
        labels=described.labels,
        preprocessor=described.preprocessor,
        provenance=described.provenance,
        publication_key=publication["key"],
        problem_type=described.problem_type,
        repeats_version=publication.get("repeats_version", 0),
        as_shadow=publication.get("as_shadow", False),
    )


def _check_same_meaning(before: ServedVersion, fresh: ServedVersion) -> None:
    if fresh.labels != before.labels:
        raise InvalidInput("bundle_path", f"labels differ from version {before.version}: {', '.join(before.labels)}")
    if fresh.problem_type is not before.problem_type:
        raise InvalidInput(
            "bundle_path",
            f"problem_type is {fresh.problem_type}; expected {before.problem_type}, as of version {before.version}",
        )
