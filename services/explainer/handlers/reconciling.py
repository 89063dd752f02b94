"""Bring the inference server to what the repository holds: a fresh one knows nothing."""

from __future__ import annotations

import asyncio
import logging

from services.common.runtime.errors import ServiceError
from services.explainer.ports import Classifier, ModelRepository

log = logging.getLogger(__name__)


async def reconcile(classifier: Classifier, repository: ModelRepository) -> list[str]:
    """Load every model that has a champion and a version that is not ready; returns the names it loaded.

    A model that can't be loaded is logged and left for the next round: it must not keep the others from being served.
    """
    loaded = []
    for name in repository.names():
        try:
            if await _load_missing(classifier, repository, name):
                loaded.append(name)
        except ServiceError as error:
            log.info("model not reconciled", extra={"model": name, "kind": error.kind})
        except Exception:
            log.exception("model not reconciled", extra={"model": name})
    return loaded


async def _load_missing(classifier: Classifier, repository: ModelRepository, name: str) -> bool:
    """Load the model `name` if it is published and not whole; returns whether it had to be.

    A version above the champion that is no shadow is being published: a second load beside its publisher's would start every process of the model anew.
    """
    champion = repository.champion(name)
    if not champion:
        return False
    shadow = repository.shadow(name)
    served = [each.version for each in repository.versions(name) if shadow.is_verified(each.version, champion)]
    if all([await classifier.is_ready(name, version) for version in served]):
        return False
    await classifier.load(name)
    return True


async def keep_reconciled(classifier: Classifier, repository: ModelRepository, interval_s: float) -> None:
    """Reconcile for ever. A server that is away is tried again; the callers see UNAVAILABLE meanwhile."""
    while True:
        try:
            for name in await reconcile(classifier, repository):
                log.info("loaded", extra={"model": name})
        except Exception:
            # Nobody else brings a restarted server back, so no fault may end this loop.
            log.exception("inference server not reconciled")
        await asyncio.sleep(interval_s)
