"""Publish a bundle as the next version and make it the champion, or leave everything as it was."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import numpy as np
import torch

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, Conflict, InvalidInput, ServiceError, Unavailable
from services.common.vision.model_bundle import ModelBundle, load_bundle
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a logit between Triton and this process: float32 sums in another order, no more."""
_POLL_S = 0.05


class Publishing:
    """The one publisher into the inference server."""

    def __init__(
        self, classifier: Classifier, repository: ModelRepository, store: ArtifactStore, ready_timeout_s: float
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._store = store
        self._ready_timeout_s = ready_timeout_s

    async def publish(self, name: str, bundle_path: str, expected_champion: int, key: str) -> ServedVersion:
        """Check the bundle at `bundle_path` of the store, serve it, verify its answers, move the champion pointer.

        The same `key` again returns the version that it made.

        Raises
        ------
        InvalidInput
            At `name`, `bundle_path` or `idempotency_key`.
        AlreadyExists
            When `key` has published another bundle.
        Conflict
            When the champion is not `expected_champion`.
        Unavailable
            When the server does not load the version or answers otherwise than this process; the old champion stays.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput("name", "expected 1 to 63 lower-case letters, digits, '-' or '_'")
        if not key:
            raise InvalidInput("idempotency_key", "empty; expected the caller's name for this publication")
        folder = self._store.local_path(bundle_path)
        if not folder.is_dir():
            raise InvalidInput("bundle_path", f"no folder '{bundle_path}' in the artifact store")
        try:
            bundle = await asyncio.to_thread(load_bundle, folder)
        except InvalidInput as error:
            raise InvalidInput("bundle_path", error.description) from error
        async with self._repository.publishing(name, self._ready_timeout_s):
            done = self._find_publication(name, key, bundle.digest)
            if done and self._repository.champion(name) >= done.version:
                return done
            champion = self._repository.champion(name)
            if champion != expected_champion:
                raise Conflict(
                    f"expected_champion_version: the champion of '{name}' is version {champion}, not {expected_champion}"
                )
            return await self._serve(name, folder, bundle, key, done)

    def _find_publication(self, name: str, key: str, digest: str) -> ServedVersion | None:
        for version in self._repository.versions(name):
            if version.publication_key == key:
                if version.digest != digest:
                    raise AlreadyExists(f"idempotency_key: '{key}' has published another bundle, {version.digest}")
                return version
        return None

    async def _serve(
        self, name: str, folder: Path, bundle: ModelBundle, key: str, left_over: ServedVersion | None
    ) -> ServedVersion:
        """Add (unless a publisher died between adding and the pointer), load, verify, point."""
        added = left_over or await asyncio.to_thread(self._repository.add_version, name, folder, key)
        try:
            await self._classifier.load(name)
            await self._wait_ready(added)
            await self._verify(added, bundle)
        except ServiceError:
            log.warning("publication undone", extra={"model": name, "version": added.version})
            self._repository.remove_version(name, added.version)
            raise
        self._repository.set_champion(name, added.version)
        log.info("published", extra={"model": name, "version": added.version, "digest": added.digest})
        return added

    async def _wait_ready(self, added: ServedVersion) -> None:
        end = asyncio.get_running_loop().time() + self._ready_timeout_s
        while not await self._classifier.is_ready(added.name, added.version):
            if asyncio.get_running_loop().time() > end:
                raise Unavailable(
                    f"version {added.version} of '{added.name}' was not ready in {self._ready_timeout_s:.0f} s"
                )
            await asyncio.sleep(_POLL_S)

    async def _verify(self, added: ServedVersion, bundle: ModelBundle) -> None:
        """The golden request: the baselines, through the server and in this process."""
        golden = bundle.baselines[:8].cpu()
        with torch.inference_mode():
            expected = bundle.model(pixel_values=golden).logits.numpy()
        answers = await self._classifier.infer(added, golden.numpy(), self._ready_timeout_s)
        difference = float(np.abs(answers.logits - expected).max())
        if not difference <= GOLDEN_TOLERANCE:
            raise Unavailable(f"the served version's logits differ by {difference:.2g} from the bundle's")
