"""The `ModelRepository` port on a folder that Triton loads from.

    <root>/<name>/config.pbtxt              written once
    <root>/<name>/champion.json             the version that requests without one reach
    <root>/<name>/<version>/model.py        two lines, see `triton.backend`
    <root>/<name>/<version>/bundle/         the model bundle
    <root>/<name>/<version>/publication.json  who made it: the publication's key

Everything but the pointer is immutable: written aside, then renamed into place.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import filelock
from transformers import AutoConfig

from services.common.runtime.errors import Conflict, InvalidInput
from services.common.vision.model_bundle import PREPROCESSING, PROVENANCE, bundle_digest
from services.common.vision.nets import register_nets
from services.common.vision.preprocessing import Preprocessor
from services.explainer.ports import ServedVersion
from services.explainer.triton import tensors

_CHAMPION = "champion.json"
_PUBLICATION = "publication.json"
_CONFIG = "config.pbtxt"


class TritonRepository:
    """Model repository under `root`; `is_gpu` decides where new models run."""

    def __init__(self, root: Path, is_gpu: bool = False) -> None:
        self._root = Path(root)
        self._is_gpu = is_gpu
        self._root.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """See the port."""
        return sorted(folder.name for folder in self._root.iterdir() if (folder / _CONFIG).is_file())

    def versions(self, name: str) -> list[ServedVersion]:
        """See the port."""
        folder = self._root / name
        numbers = (
            sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.is_dir() else []
        )
        return [_read_version(folder, number) for number in numbers]

    def champion(self, name: str) -> int:
        """See the port."""
        pointer = self._root / name / _CHAMPION
        return int(json.loads(pointer.read_text())["version"]) if pointer.is_file() else 0

    def set_champion(self, name: str, version: int) -> None:
        """See the port."""
        aside = self._root / name / f".champion-{uuid.uuid4().hex}"
        aside.write_text(json.dumps({"version": version}))
        aside.replace(self._root / name / _CHAMPION)

    def add_version(self, name: str, bundle: Path, publication_key: str) -> ServedVersion:
        """See the port.

        Raises
        ------
        InvalidInput
            When the bundle's input shape or labels differ from the versions before: Triton's configuration is per model.
        """
        folder = self._root / name
        versions = self.versions(name)
        number = versions[-1].version + 1 if versions else 1
        aside = self._root / f".incoming-{uuid.uuid4().hex}"
        try:
            shutil.copytree(bundle, aside / tensors.BUNDLE_FOLDER)
            (aside / "model.py").write_text(tensors.MODEL_SHELL)
            (aside / _PUBLICATION).write_text(json.dumps({"key": publication_key}))
            fresh = _describe(aside, name, number)
            if versions:
                _check_same_interface(versions[-1], fresh)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                self._write_config(folder, fresh)
            aside.replace(folder / str(number))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return _read_version(folder, number)

    def remove_version(self, name: str, version: int) -> None:
        """See the port. The last version takes its model along."""
        folder = self._root / name
        shutil.rmtree(folder / str(version))
        _read_version.cache_clear()
        if not self.versions(name):
            shutil.rmtree(folder)

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

    def _write_config(self, folder: Path, version: ServedVersion) -> None:
        shape = (version.preprocessor.channels, version.preprocessor.height_px, version.preprocessor.width_px)
        (folder / _CONFIG).write_text(tensors.render_config(version.name, shape, len(version.labels), self._is_gpu))


@lru_cache(maxsize=256)
def _read_version(folder: Path, number: int) -> ServedVersion:
    # Versions never change, so what was read once holds.
    return _describe(folder / str(number), folder.name, number)


def _describe(folder: Path, name: str, number: int) -> ServedVersion:
    bundle = folder / tensors.BUNDLE_FOLDER
    register_nets()
    config = AutoConfig.from_pretrained(bundle, local_files_only=True)
    provenance = bundle / PROVENANCE
    return ServedVersion(
        name=name,
        version=number,
        digest=bundle_digest(bundle),
        labels=tuple(config.id2label[index] for index in range(config.num_labels)),
        preprocessor=Preprocessor.from_config(
            json.loads((bundle / PREPROCESSING).read_text()), getattr(config, "num_channels", 3)
        ),
        provenance=json.loads(provenance.read_text()) if provenance.is_file() else {},
        publication_key=json.loads((folder / _PUBLICATION).read_text())["key"],
    )


def _check_same_interface(before: ServedVersion, fresh: ServedVersion) -> None:
    if fresh.labels != before.labels:
        raise InvalidInput("bundle_path", f"labels differ from version {before.version}: {', '.join(before.labels)}")
    shapes = [(p.channels, p.height_px, p.width_px) for p in (before.preprocessor, fresh.preprocessor)]
    if shapes[0] != shapes[1]:
        raise InvalidInput("bundle_path", f"input shape {shapes[1]} differs from version {before.version}: {shapes[0]}")
