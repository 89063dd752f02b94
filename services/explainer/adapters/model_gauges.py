"""How the served models stand, for Prometheus."""

from __future__ import annotations

from services.explainer import metrics
from services.explainer.handlers.listing import list_versions
from services.explainer.ports import Classifier, ModelRepository

_GAUGES = (metrics.VERSIONS, metrics.VERSIONS_READY, metrics.CHAMPION_VERSION, metrics.CHAMPION_READY)


class ModelGauges:
    """Sets the models' gauges. A model that has never had a champion has none: its first version is being published."""

    def __init__(self, classifier: Classifier, repository: ModelRepository) -> None:
        self._classifier = classifier
        self._repository = repository

    async def look(self) -> None:
        """Bring the gauges to how the models stand now."""
        listed = await list_versions(self._classifier, self._repository, "")
        champions = [entry for entry in listed if entry.is_champion]
        for gauge in _GAUGES:
            gauge.clear()
        for champion in champions:
            name = champion.served.name
            versions = [entry for entry in listed if entry.served.name == name]
            metrics.VERSIONS.labels(name).set(len(versions))
            metrics.VERSIONS_READY.labels(name).set(sum(entry.is_ready for entry in versions))
            metrics.CHAMPION_VERSION.labels(name).set(champion.served.version)
            metrics.CHAMPION_READY.labels(name).set(champion.is_ready)
