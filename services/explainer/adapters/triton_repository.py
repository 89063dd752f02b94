"""The `ModelRepository` port on a folder that Triton loads from.

    <root>/<name>/config.pbtxt              written once, and again by a release that asks more of a model
    <root>/<name>/champion.json             the version that requests without one reach
    <root>/<name>/shadow.json               the version that answers a share of them too, unseen, and those that were served for that alone
    <root>/<name>/<version>/model.py        two lines, see `triton.backend`
    <root>/<name>/<version>/bundle/         the model bundle
    <root>/<name>/<version>/publication.json  who made it: the publication's key, the bundle's digest, the version that a rollback repeats, whether as a shadow
    <root>/.<name>.highest.json             the highest number that a version ever had

Everything but the pointers, the configuration and the highest number is immutable: written aside, then renamed into place. No number is used twice, for other
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
from services.explainer.triton import tensors

log = logging.getLogger(__name__)

_CHAMPION = "champion.json"
_SHADOW = "shadow.json"
_PUBLICATION = "publication.json"
_CONFIG = "config.pbtxt"
_HIGHEST = ".{name}.highest.json"


class TritonRepository:
    """Model repository under `root`; `is_gpu` decides where new models run."""

    def __init__(self, root: Path, is_gpu: bool = False) -> None:
        self._root = Path(root)
        self._is_gpu = is_gpu
        self._unreadable: set[Path] = set()
        self._root.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """See the port."""
        # A leading dot marks what is on its way in or out.
        return sorted(
            folder.name
            for folder in self._root.iterdir()
            if not folder.name.startswith(".") and (folder / _CONFIG).is_file()
        )

    def renew_configs(self) -> None:
        """Write those configurations anew that an earlier release wrote otherwise. Where a model runs stays as it is.

        A Triton that has such a model loaded goes on with the old one until it is started again, which a new release needs anyway.
        """
        for name in self.names():
            config = self._root / name / _CONFIG
            written, versions = config.read_text(), self.versions(name)
            if not versions:
                continue
            renewed = _render_config(versions[-1], "KIND_GPU" in written)
            if renewed != written:
                log.info("configuration renewed", extra={"model": name})
                self._replace(config, renewed)

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
        return self._root / name / str(version) / tensors.BUNDLE_FOLDER

    def add_version(
        self, name: str, bundle: Path, publication_key: str, repeats_version: int = 0, as_shadow: bool = False
    ) -> ServedVersion:
        """See the port.

        Raises
        ------
        InvalidInput
            When the bundle's input shape or labels differ from the versions before: Triton's configuration is per model.
        """
        folder = self._root / name
        versions = self.versions(name)
        number = self._take_number(name)
        aside = self._root / f".incoming-{uuid.uuid4().hex}"
        try:
            shutil.copytree(bundle, aside / tensors.BUNDLE_FOLDER)
            (aside / "model.py").write_text(tensors.MODEL_SHELL)
            publication = {
                "key": publication_key,
                "digest": bundle_digest(aside / tensors.BUNDLE_FOLDER),
                "repeats_version": repeats_version,
                "as_shadow": as_shadow,
            }
            (aside / _PUBLICATION).write_text(json.dumps(publication))
            fresh = _describe(aside, name, number)
            if versions:
                _check_same_interface(versions[-1], fresh)
            elif not self.numbers(name):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / _CONFIG).write_text(_render_config(fresh, self._is_gpu))
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


def _render_config(version: ServedVersion, is_gpu: bool) -> str:
    shape = (version.preprocessor.channels, version.preprocessor.height_px, version.preprocessor.width_px)
    return tensors.render_config(version.name, shape, len(version.labels), is_gpu)


@lru_cache(maxsize=256)
def _read_version(folder: Path, number: int) -> ServedVersion:
    # Versions never change, so what was read once holds.
    return _describe(folder / str(number), folder.name, number)


def _describe(folder: Path, name: str, number: int) -> ServedVersion:
    bundle = folder / tensors.BUNDLE_FOLDER
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
        repeats_version=publication.get("repeats_version", 0),
        as_shadow=publication.get("as_shadow", False),
    )


def _check_same_interface(before: ServedVersion, fresh: ServedVersion) -> None:
    if fresh.labels != before.labels:
        raise InvalidInput("bundle_path", f"labels differ from version {before.version}: {', '.join(before.labels)}")
    shapes = [(p.channels, p.height_px, p.width_px) for p in (before.preprocessor, fresh.preprocessor)]
    if shapes[0] != shapes[1]:
        raise InvalidInput("bundle_path", f"input shape {shapes[1]} differs from version {before.version}: {shapes[0]}")
