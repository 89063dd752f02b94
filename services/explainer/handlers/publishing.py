"""Publish a bundle as the next version and make it the champion, or leave everything as it was."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, Conflict, InvalidInput, Unavailable
from services.common.vision.model_bundle import ModelBundle, load_bundle
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a logit between Triton and this process, relative to the largest logit (to 1 when all are smaller):
float32 sums in another order, no more."""
_GOLDEN_COUNT = 8
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
        self._running: set[asyncio.Task[ServedVersion]] = set()

    async def publish(self, name: str, bundle_path: str, expected_champion: int, key: str) -> ServedVersion:
        """Check the bundle at `bundle_path` of the store, serve it, verify its answers, move the champion pointer.

        The same `key` again returns the version that it made. A caller that goes away does not stop it: it ends published, or
        undone.

        Raises
        ------
        InvalidInput
            At `name`, `bundle_path` or `idempotency_key`.
        AlreadyExists
            When `key` has published another bundle.
        Conflict
            When the champion is not `expected_champion`.
        Unavailable
            When the server does not answer, or answers otherwise than this process; the old champion stays.
        WrongState
            When the server refuses the version; the old champion stays.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput("name", "expected 1 to 63 lower-case letters, digits, '-' or '_'")
        if not key:
            raise InvalidInput("idempotency_key", "empty; expected the caller's name for this publication")
        folder = self._store.local_path(bundle_path)
        if not folder.is_dir():
            raise InvalidInput("bundle_path", f"no folder '{bundle_path}' in the artifact store")
        # The event loop keeps tasks weakly: without the set a publication whose caller left could vanish half-way.
        task = asyncio.create_task(self._publish(name, folder, expected_champion, key))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _publish(self, name: str, folder: Path, expected_champion: int, key: str) -> ServedVersion:
        try:
            bundle = await _run_in_thread(load_bundle, folder)
            expected = await _run_in_thread(_answer_golden, bundle)
        except InvalidInput as error:
            raise InvalidInput("bundle_path", error.description) from error
        async with self._repository.publishing(name, self._ready_timeout_s):
            champion = self._repository.champion(name)
            done = self._find_publication(name, champion, key, bundle.digest)
            if done:
                return done
            if champion != expected_champion:
                raise Conflict(
                    f"expected_champion_version: the champion of '{name}' is version {champion}, not {expected_champion}"
                )
            self._remove_unpublished(name)
            return await self._serve(name, folder, bundle, expected, key)

    def _find_publication(self, name: str, champion: int, key: str, digest: str) -> ServedVersion | None:
        """The version that `key` made. Those above the champion don't count: nobody verified them."""
        for version in self._repository.versions(name):
            if version.publication_key == key and version.version <= champion:
                if version.digest != digest:
                    raise AlreadyExists(f"idempotency_key: '{key}' has published another bundle, {version.digest}")
                return version
        return None

    async def _serve(
        self, name: str, folder: Path, bundle: ModelBundle, expected: np.ndarray, key: str
    ) -> ServedVersion:
        """Add, load, verify, point; whatever stops it, cancellation too, leaves the champion and nothing above it."""
        try:
            added = await _run_in_thread(self._repository.add_version, name, folder, key)
            await self._classifier.load(name)
            await self._wait_ready(added)
            await self._verify(added, bundle, expected)
            self._repository.set_champion(name, added.version)
        except BaseException:
            self._remove_unpublished(name)
            raise
        log.info("published", extra={"model": name, "version": added.version, "digest": added.digest})
        return added

    def _remove_unpublished(self, name: str) -> None:
        """Take out what a publisher left between adding and the pointer: versions above the champion."""
        champion = self._repository.champion(name)
        for number in self._repository.numbers(name):
            if number > champion:
                log.warning("publication undone", extra={"model": name, "version": number})
                self._repository.remove_version(name, number)

    async def _wait_ready(self, added: ServedVersion) -> None:
        end = asyncio.get_running_loop().time() + self._ready_timeout_s
        while not await self._classifier.is_ready(added.name, added.version):
            if asyncio.get_running_loop().time() > end:
                raise Unavailable(
                    f"version {added.version} of '{added.name}' was not ready in {self._ready_timeout_s:.0f} s"
                )
            await asyncio.sleep(_POLL_S)

    async def _verify(self, added: ServedVersion, bundle: ModelBundle, expected: np.ndarray) -> None:
        """The golden request: the baselines through the server, held against this process's `expected` logits."""
        answers = await self._classifier.infer(added, bundle.baselines[:_GOLDEN_COUNT].numpy(), self._ready_timeout_s)
        difference = float(np.abs(answers.logits - expected).max())
        if not difference <= GOLDEN_TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise Unavailable(f"the served version's logits differ by {difference:.2g} from the bundle's")


def _answer_golden(bundle: ModelBundle) -> np.ndarray:
    """Logits (picture, classes) of the first baselines."""
    golden = bundle.baselines[:_GOLDEN_COUNT]
    try:
        with torch.inference_mode():
            logits = bundle.model(pixel_values=golden).logits
    except Exception as error:
        # Any architecture of transformers may stand here, and each has its own way of not taking a picture.
        raise InvalidInput("bundle", f"the model does not take its own baselines: {error}") from error
    if logits.shape != (len(golden), len(bundle.labels)) or not logits.isfinite().all():
        raise InvalidInput("bundle", "the model's answer to its own baselines is not one finite logit per class")
    return logits.numpy()


async def _run_in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """`function` in a thread. A thread can't be stopped: a cancellation waits for its end, so that no lock goes before."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
