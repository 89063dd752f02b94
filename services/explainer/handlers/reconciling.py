"""Bring the inference server to what the repository holds: a fresh one knows nothing."""

from __future__ import annotations

import asyncio
import logging

from services.common.runtime.errors import ServiceError
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

log = logging.getLogger(__name__)


async def reconcile(classifier: Classifier, repository: ModelRepository) -> list[ServedVersion]:
    """Load every verified version that is not ready, a model's champion before its others; returns those that were loaded.

    What can't be loaded is logged and left for the next round: it must not keep the others from being served.
    """
    missing = []
    for name in repository.names():
        try:
            missing += await _find_missing(classifier, repository, name)
        except Exception:
            log.exception("model not reconciled", extra={"model": name})
    loaded = []
    for _, served in sorted(missing, key=lambda pair: pair[0]):
        told = {"model": served.name, "version": served.version}
        try:
            await classifier.load(served, repository.bundle(served.name, served.version))
            loaded.append(served)
        except ServiceError as error:
            log.info("version not reconciled", extra=told | {"kind": error.kind})
        except Exception:
            log.exception("version not reconciled", extra=told)
    return loaded


async def _find_missing(
    classifier: Classifier, repository: ModelRepository, name: str
) -> list[tuple[int, ServedVersion]]:
    """The versions of a model to be loaded, each with its turn: champions first, then shadows, then the rest.

    A version above the champion that is no shadow is being published: that is its publisher's to load.
    """
    champion, shadow = repository.champion(name), repository.shadow(name)
    if not champion:
        return []
    turns = {champion: 0, shadow.version: 1}
    verified = [each for each in repository.versions(name) if shadow.is_verified(each.version, champion)]
    return [
        (turns.get(each.version, 2), each)
        for each in reversed(verified)
        if not await classifier.is_ready(name, each.version)
    ]


async def keep_reconciled(classifier: Classifier, repository: ModelRepository, interval_s: float) -> None:
    """Reconcile for ever. A server that is away is tried again; the callers see UNAVAILABLE meanwhile."""
    while True:
        try:
            for served in await reconcile(classifier, repository):
                log.info("loaded", extra={"model": served.name, "version": served.version})
        except Exception:
            # Nobody else brings a restarted server back, so no fault may end this loop.
            log.exception("inference server not reconciled")
        await asyncio.sleep(interval_s)
