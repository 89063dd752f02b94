"""Bring the inference server to what the repository holds: a fresh one knows nothing."""

from __future__ import annotations

import asyncio
import logging

from services.common.runtime.errors import ServiceError
from services.explainer.ports import Classifier, ModelRepository

log = logging.getLogger(__name__)


async def reconcile(classifier: Classifier, repository: ModelRepository) -> list[str]:
    """Load every model that has a champion and a version that is not ready; returns the names it loaded."""
    loaded = []
    for name in repository.names():
        if not repository.champion(name):
            continue
        ready = [await classifier.is_ready(name, version.version) for version in repository.versions(name)]
        if not all(ready):
            await classifier.load(name)
            loaded.append(name)
    return loaded


async def keep_reconciled(classifier: Classifier, repository: ModelRepository, interval_s: float) -> None:
    """Reconcile for ever. A server that is away is tried again; the callers see UNAVAILABLE meanwhile."""
    while True:
        try:
            for name in await reconcile(classifier, repository):
                log.info("loaded", extra={"model": name})
        except ServiceError as error:
            log.info("inference server not reconciled", extra={"kind": error.kind})
        await asyncio.sleep(interval_s)
