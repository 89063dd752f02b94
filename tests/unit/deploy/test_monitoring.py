"""With the component every process tells its metrics to Prometheus, and alerts and dashboard speak of metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from services.common.runtime import metrics as common
from services.explainer import metrics as explainer
from services.lvlm import metrics as lvlm
from services.trainer import metrics as trainer
from tests.support.manifests import (
    K8S,
    ROOT,
    SETTINGS,
    Object,
    find,
    load_settings,
    render_component,
    validate,
    violations,
)

COMPONENT = K8S / "components" / "monitoring"
POD_LABELS = {"pod", "job", "instance"}
_SELECTOR = re.compile(r"(?P<name>[a-z_][a-z_0-9]*)\{(?P<matchers>[^}]*)\}")
_REPLACED = re.compile(r"label_replace\(.*?\), \"(\w+)\"")
_GROUPING = re.compile(r"(?:by|without|ignoring|on)\s*\(([^)]*)\)")


def list_metrics() -> dict[str, set[str]]:
    """Every metric of the code by its name in PromQL, with its labels."""
    found: dict[str, set[str]] = {}
    for module in (common, explainer, lvlm, trainer):
        for each in vars(module).values():
            for family in each.describe() if hasattr(each, "describe") and hasattr(each, "_labelnames") else ():
                suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
                for suffix in suffixes:
                    extra = {"le"} if suffix == "_bucket" else set()
                    found[family.name + suffix] = {*each._labelnames} | extra
    return found


METRICS = list_metrics()


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The local overlay with the component."""
    return render_component(tmp_path_factory.mktemp("monitored"), COMPONENT.name)


def _of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def _alerts(objects: list[Object]) -> list[Object]:
    return [
        rule
        for each in _of_kind(objects, "PrometheusRule")
        for group in each["spec"]["groups"]
        for rule in group["rules"]
    ]


def _dashboard(objects: list[Object]) -> Object:
    found = find(objects, "ConfigMap", "plumbline-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(found["data"]["plumbline.json"])


def _expressions(objects: list[Object]) -> Iterator[str]:
    yield from (alert["expr"] for alert in _alerts(objects))
    yield from (target["expr"] for panel in _dashboard(objects)["panels"] for target in panel.get("targets", []))


def test_every_metric_and_label_that_an_expression_names_is_in_the_code(monitored):
    expressions = list(_expressions(monitored))
    for expression in expressions:
        named = set(re.findall(r"\bplumbline_[a-z_]+", expression))
        assert named <= METRICS.keys(), expression
        assert named or "up{" in expression, expression
        for selector in _SELECTOR.finditer(expression):
            labels = set(re.findall(r"(\w+)\s*[=!]~?", selector["matchers"]))
            assert labels <= METRICS.get(selector["name"], POD_LABELS), expression
        known = set().union(*(METRICS[name] for name in named), POD_LABELS)
        grouped = {label.strip() for group in _GROUPING.findall(expression) for label in group.split(",")}
        assert grouped <= known, expression
    assert len(expressions) > 40


def test_a_label_that_is_told_in_words_is_one_that_the_alert_has(monitored):
    for alert in _alerts(monitored):
        told = set(re.findall(r"\$labels\.(\w+)", json.dumps(alert["annotations"])))
        grouped = {label.strip() for group in _GROUPING.findall(alert["expr"]) for label in group.split(",")}
        assert told <= grouped | POD_LABELS | set(_REPLACED.findall(alert["expr"])), alert["alert"]
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}


def test_every_metric_is_on_the_dashboard(monitored):
    shown = " ".join(target["expr"] for panel in _dashboard(monitored)["panels"] for target in panel.get("targets", []))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRICS}
    assert {name for name in families if name not in shown} == set()


def test_panels_lie_side_by_side_and_have_numbers_of_their_own(monitored):
    panels = _dashboard(monitored)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_prometheus_asks_the_port_on_which_every_process_tells_and_is_let_in(monitored):
    (monitor,) = _of_kind(monitored, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (selected,) = monitor["spec"]["selector"]["matchExpressions"]
    assert set(selected["values"]) == {"explainer", "lvlm", "trainer-api", "trainer-worker"}
    settings = {
        name: value
        for each in _of_kind(monitored, "ConfigMap")
        if "-settings" in each["metadata"]["name"]
        for name, value in each["data"].items()
    }
    for name in ("EXPLAINER_METRICS", "LVLM_METRICS", "TRAINER_METRICS", "TRAINER_WORKER_METRICS"):
        assert settings[f"{name}_LISTEN"] == f"0.0.0.0:{endpoint['portNumber']}"
    for name in selected["values"]:
        policy = find(monitored, "NetworkPolicy", f"{name}-from-prometheus")
        assert policy["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert [port["port"] for port in policy["spec"]["ingress"][0]["ports"]] == [endpoint["portNumber"]]


@pytest.mark.parametrize("service", SETTINGS)
def test_settings_with_metrics_load_through_the_services_class(service, monitored, monkeypatch):
    assert load_settings(monitored, service, monkeypatch).metrics_listen


def test_what_is_monitored_keeps_the_policy_and_is_valid(monitored):
    assert violations(monitored) == []
    validate(monitored)


def test_the_page_on_telemetry_lists_every_metric_with_its_labels():
    rows = re.findall(r"^\| `(plumbline_\w+)` \|([^|]*)\|", (ROOT / "docs" / "telemetry.md").read_text(), re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    families = {re.sub(r"_(bucket|sum|count)$", "", name): labels - {"le"} for name, labels in METRICS.items()}
    assert told == families


def test_of_every_deployment_that_is_asked_an_alert_tells_when_no_pod_is_there(monitored):
    """All other expressions compare what pods tell, and are true of nothing where there is none."""
    (monitor,) = _of_kind(monitored, "PodMonitor")
    (selected,) = monitor["spec"]["selector"]["matchExpressions"]
    (gone,) = [alert["expr"] for alert in _alerts(monitored) if alert["alert"] == "PlumblineServiceGone"]
    told = re.findall(r'absent\(up\{job=~"\.\*/plumbline", pod=~"([\w-]+)-\.\*"\}\), "service", "([\w-]+)"', gone)
    assert told == [(name, name) for name in selected["values"]]
    assert set(selected["values"]) <= {each["metadata"]["name"] for each in _of_kind(monitored, "Deployment")}
