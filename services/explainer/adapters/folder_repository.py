"""The `ModelRepository` port on a folder, which the inference server reads too.

    <root>/<name>/champion.json             the version that requests without one reach
    <root>/<name>/shadow.json               the version that answers a share of them too, unseen, and those that were served for that alone
    <root>/<name>/<version>/bundle/         the model bundle
    <root>/<name>/<version>/publication.json  who made it: the publication's key, the bundle's digest, the version that a rollback repeats, whether as a shadow
    <root>/.<name>.highest.json             the highest number that a version ever had

Everything but the pointers and the highest number is immutable: written aside, then renamed into place. No number is used twice, for other
processes keep what they read of a version.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import filelock

from services.common.runtime.errors import Conflict, InvalidInput
from services.common.vision.model_bundle import bundle_digest, describe_bundle
from services.explainer.ports import ServedVersion, ShadowPointer

log = logging.getLogger(__name__)

_CHAMPION = "champion.json"
_SHADOW = "shadow.json"
_PUBLICATION = "publication.json"
_BUNDLE = "bundle"
_HIGHEST = ".{name}.highest.json"


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
        folder = self._root / name
        return (
            sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()) if folder.is_dir() else []
        )

    def version(self, name: str, number: int) -> ServedVersion | None:
        """See the port."""
        folder = self._root / name
        if not (folder / str(number)).is_dir():
            return None
        try:
            return _read_version(folder, number)
        except Exception:
            # Whatever is wrong in one folder must not take the others along. Said once: the reconciler asks every second.
            if folder / str(number) not in self._unreadable:
                log.exception("version is unreadable", extra={"model": name, "version": number})
                self._unreadable.add(folder / str(number))
            return None

    def versions(self, name: str) -> list[ServedVersion]:
        """See the port."""
        found = (self.version(name, number) for number in self.numbers(name))
        return [version for version in found if version]

    def champion(self, name: str) -> int:
        """See the port."""
        pointer = self._root / name / _CHAMPION
        return int(json.loads(pointer.read_text())["version"]) if pointer.is_file() else 0

    def set_champion(self, name: str, version: int) -> None:
        """See the port."""
        self._replace(self._root / name / _CHAMPION, json.dumps({"version": version}))

    def shadow(self, name: str) -> ShadowPointer:
        """See the port."""
        pointer = self._root / name / _SHADOW
        if not pointer.is_file():
            return ShadowPointer()
        content = json.loads(pointer.read_text())
        return ShadowPointer(content["version"], tuple(content["verified"]), content["change_count"])

    def set_shadow(self, name: str, pointer: ShadowPointer) -> None:
        """See the port."""
        self._replace(self._root / name / _SHADOW, json.dumps(asdict(pointer)))

    def highest(self, name: str) -> int:
        """See the port."""
        highest = self._root / _HIGHEST.format(name=name)
        before = json.loads(highest.read_text())["version"] if highest.is_file() else 0
        return max([before, *self.numbers(name)])

    def bundle(self, name: str, version: int) -> Path:
        """See the port."""
        return self._root / name / str(version) / _BUNDLE

    def add_version(
        self, name: str, bundle: Path, publication_key: str, repeats_version: int = 0, as_shadow: bool = False
    ) -> ServedVersion:
        """See the port.

        Raises
        ------
        InvalidInput
            When the bundle's labels differ from the versions before: callers name classes, and so do comparisons and gates.
        """
        folder = self._root / name
        versions = self.versions(name)
        number = self._take_number(name)
        aside = self._root / f".incoming-{uuid.uuid4().hex}"
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
            folder.mkdir(exist_ok=True)
            aside.replace(folder / str(number))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return fresh

    def remove_version(self, name: str, version: int) -> None:
        """See the port. The last version takes its model along."""
        is_last = self.numbers(name) == [version]
        leaving = self._root / name if is_last else self._root / name / str(version)
        # Renamed first: nobody may read, or load, a folder that is half gone.
        aside = leaving.replace(self._root / f".removed-{uuid.uuid4().hex}")
        shutil.rmtree(aside, ignore_errors=True)

    @asynccontextmanager
    async def publishing(self, name: str, timeout_s: float) -> AsyncIterator[None]:
        """See the port.

        Raises
        ------
        Conflict
            When another publisher keeps the lock for longer than `timeout_s`.
        """
        lock = filelock.FileLock(self._root / f".{name}.lock", thread_local=False)
        try:
            await asyncio.to_thread(lock.acquire, timeout=timeout_s)
        except filelock.Timeout as error:
            raise Conflict(f"another version of {name} is being published; try again") from error
        try:
            yield
        finally:
            lock.release()

    def _take_number(self, name: str) -> int:
        """A number that no version of the model ever had, the removed ones counted."""
        number = self.highest(name) + 1
        self._replace(self._root / _HIGHEST.format(name=name), json.dumps({"version": number}))
        return number

    def _replace(self, path: Path, content: str) -> None:
        aside = self._root / f".replacing-{uuid.uuid4().hex}"
        aside.write_text(content)
        aside.replace(path)


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
