"""Publish a bundle as the next version and make it the champion, or leave everything as it was."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from pathlib import Path

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
    WrongState,
)
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.uncancelled import run_in_thread, run_to_end
from services.explainer.handlers.verifying import Expected, Verifying, find_expected
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import Classifier, ModelRepository, Publication, ServedVersion

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_POLL_S = 0.05


class Publishing:
    """The one publisher into this replica's inference server; the other replicas' load what is published by themselves."""

    def __init__(
        self,
        classifier: Classifier,
        repository: ModelRepository,
        store: ArtifactStore,
        announcing: Announcing,
        versions: LiveVersions,
        verifying: Verifying,
        ready_timeout_s: float,
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._store = store
        self._announcing = announcing
        self._versions = versions
        self._verifying = verifying
        self._ready_timeout_s = ready_timeout_s

    async def publish(
        self, name: str, bundle_path: str, expected_champion: int, key: str, caller: str = "", as_shadow: bool = False
    ) -> ServedVersion:
        """Serve the bundle at `bundle_path` of the store as the next version: `publish_folder` with what a stranger may have wrong.

        Raises
        ------
        InvalidInput
            At `name`, `bundle_path` or `idempotency_key`.
        """
        check_asked(name, key)
        return await run_to_end(
            self._publish_stored(name, bundle_path, expected_champion, Publication(key, caller, as_shadow=as_shadow))
        )

    async def publish_folder(
        self, name: str, folder: Path, expected_champion: int, publication: Publication
    ) -> ServedVersion:
        """Check the bundle in `folder`, serve it, verify its answers, announce it in the audit log, move the champion pointer, or the shadow's.

        The same key again returns the version that it made. A caller that goes away does not stop it: it ends published, or
        undone.

        Raises
        ------
        InvalidInput
            At `bundle_path`.
        AlreadyExists
            When the key has published another bundle.
        Conflict
            When the champion is not `expected_champion`.
        Unavailable
            When the server does not answer, or answers otherwise than this process, the audit log can't be written, or another publication of the
            model takes too long; the old champion stays.
        WrongState
            When the server refuses the version, or answers its golden request otherwise than `transformers` did; the old champion stays. Also
            when a model without a champion is to get a shadow.
        """
        return await run_to_end(self._publish(name, folder, expected_champion, publication))

    async def _publish_stored(
        self, name: str, bundle_path: str, expected_champion: int, publication: Publication
    ) -> ServedVersion:
        with contextlib.ExitStack() as fetched:
            try:
                folder = await run_in_thread(fetched.enter_context, self._store.fetch(bundle_path))
            except NotFound as error:
                raise InvalidInput("bundle_path", f"no folder '{bundle_path}' in the artifact store") from error
            if not folder.is_dir():
                raise InvalidInput("bundle_path", f"'{bundle_path}' is no folder in the artifact store")
            return await self._publish(name, folder, expected_champion, publication)

    async def _publish(
        self, name: str, folder: Path, expected_champion: int, publication: Publication
    ) -> ServedVersion:
        try:
            expected = await run_in_thread(find_expected, folder)
        except InvalidInput as error:
            raise InvalidInput("bundle_path", error.description) from error
        async with self._repository.publishing(name, self._ready_timeout_s):
            champion = self._repository.champion(name)
            done = self._find_publication(name, champion, publication, expected.digest)
            if done:
                return done
            check_champion(name, champion, expected_champion)
            if publication.as_shadow and not champion:
                raise WrongState(f"as_shadow: '{name}' has no champion that a shadow could be compared with")
            await self._remove_unpublished(name)
            return await self._serve(name, folder, expected, publication)

    def _find_publication(
        self, name: str, champion: int, publication: Publication, digest: str
    ) -> ServedVersion | None:
        """The version that the key made. Those that nobody verified don't count."""
        key, shadow = publication.key, self._repository.shadow(name)
        for version in self._repository.versions(name):
            if version.publication_key == key and shadow.is_verified(version.version, champion):
                if version.digest != digest:
                    raise AlreadyExists(f"idempotency_key: '{key}' has published another bundle, {version.digest}")
                made = (version.repeats_version, version.as_shadow)
                if made != (publication.repeats_version, publication.as_shadow):
                    raise AlreadyExists(f"idempotency_key: '{key}' has made version {version.version} in another way")
                return version
        return None

    async def _serve(self, name: str, folder: Path, expected: Expected, publication: Publication) -> ServedVersion:
        """Add, load, verify, announce, point; whatever stops it, cancellation too, leaves the champion and nothing above it."""
        try:
            added = await run_in_thread(
                self._repository.add_version,
                name,
                folder,
                publication.key,
                publication.repeats_version,
                publication.as_shadow,
            )
            await self._classifier.load(added, self._repository.bundle(name, added.version))
            await self._wait_ready(added)
            await self._verifying.verify(added, expected)
            # Before the pointer moves: no version may be live of which no event tells. One too many is undone, one too few is lost.
            if publication.as_shadow:
                pointer, caller = self._repository.shadow(name), publication.caller
                await run_in_thread(self._announcing.announce_shadow, name, added, pointer, added.version, caller)
                await run_in_thread(self._repository.set_shadow, name, pointer.moved_to_new(added.version))
            else:
                await run_in_thread(self._announcing.announce, added, publication)
                await run_in_thread(self._repository.set_champion, name, added.version)
                self._versions.see_champion(name, added.version)
        except BaseException:
            await self._remove_unpublished(name)
            raise
        told = {"model": name, "version": added.version, "digest": added.digest, "as_shadow": added.as_shadow}
        log.info("published", extra=told)
        return added

    async def _remove_unpublished(self, name: str) -> None:
        """Take out what a publisher left between adding and the pointer: versions above the champion that are no shadows.

        The log is told first: a version that can't be told of stays for the next publisher, for it is all that reminds of it.
        """
        await run_in_thread(self._announcing.settle, name)
        champion, shadow = self._repository.champion(name), self._repository.shadow(name)
        for number in self._repository.numbers(name):
            if shadow.is_verified(number, champion):
                continue
            log.warning("publication undone", extra={"model": name, "version": number})
            await run_in_thread(self._repository.remove_version, name, number)
            # A server that is away has nothing loaded when it is back.
            with contextlib.suppress(ServiceError):
                await self._classifier.unload(name, number)

    async def _wait_ready(self, added: ServedVersion) -> None:
        end = asyncio.get_running_loop().time() + self._ready_timeout_s
        while not await self._classifier.is_ready(added.name, added.version):
            if asyncio.get_running_loop().time() > end:
                raise Unavailable(
                    f"version {added.version} of '{added.name}' was not ready in {self._ready_timeout_s:.0f} s"
                )
            await asyncio.sleep(_POLL_S)


def check_asked(name: str, key: str) -> None:
    """Raise `InvalidInput` at a publication's `name` or `idempotency_key`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("name", "expected 1 to 63 lower-case letters, digits, '-' or '_'")
    if not key:
        raise InvalidInput("idempotency_key", "empty; expected the caller's name for this publication")


def check_champion(name: str, champion: int, expected: int) -> None:
    """Raise `Conflict` when a model's champion is not the one that a caller went by."""
    if champion != expected:
        raise Conflict(f"expected_champion_version: the champion of '{name}' is version {champion}, not {expected}")
