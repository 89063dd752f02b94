"""What Prometheus would read, over HTTP and by its own parser."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class MetricsPage:
    """The numbers of a process at one moment."""

    def __init__(self, address: str) -> None:
        with _DIRECT.open(f"http://{address}/metrics", timeout=10) as response:
            self.text = response.read().decode()
        self._samples = [sample for family in text_string_to_metric_families(self.text) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of `name` that have `labels`; 0 without any."""
        return sum(
            sample.value for sample in self._samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    def values(self, name: str, label: str) -> dict[str, float]:
        """The samples of `name` by their `label`."""
        return {sample.labels[label]: sample.value for sample in self._samples if sample.name == name}
