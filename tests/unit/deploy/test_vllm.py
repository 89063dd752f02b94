"""With the component the LVLM service asks vLLM for its model, on ways that nobody else has."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from services.lvlm.settings import LvlmSettings
from tests.support.manifests import Object, find, list_pods, load_settings, render_component, validate, violations


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The local overlay with the component and a tag for its image."""
    return render_component(
        tmp_path_factory.mktemp("vllm"), "vllm", images=[{"name": "vllm/vllm-openai", "newTag": "v0.11.0"}]
    )


@pytest.fixture
def settings(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> LvlmSettings:
    return load_settings(objects, "lvlm", monkeypatch)


def test_the_lvlm_service_asks_for_the_model_that_is_served_where_it_is_served(
    objects: list[Object], settings: LvlmSettings
):
    container = list_pods(objects)["vllm"]["containers"][0]
    arguments = dict(part.removeprefix("--").split("=", 1) for part in container["args"])
    address = urlsplit(settings.base_url)
    assert settings.engine == "openai"
    assert settings.model == arguments["served-model-name"]
    assert address.hostname == "vllm"
    assert address.port == find(objects, "Service", "vllm")["spec"]["ports"][0]["port"] == int(arguments["port"])


def test_weights_come_from_a_volume_and_nothing_is_fetched(objects: list[Object]):
    pod = list_pods(objects)["vllm"]
    container = pod["containers"][0]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]
    assert {"name": "weights", "mountPath": "/weights", "readOnly": True} in container["volumeMounts"]
    assert find(objects, "NetworkPolicy", "vllm")["spec"].get("egress", []) == []


def test_the_lvlm_service_alone_may_speak_to_it(objects: list[Object]):
    ingress = find(objects, "NetworkPolicy", "vllm")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"] for rule in ingress for peer in rule["from"]] == [
        {"app.kubernetes.io/name": "lvlm"}
    ]


def test_an_answer_in_flight_may_take_its_time_when_it_ends(objects: list[Object], settings: LvlmSettings):
    grace_s = list_pods(objects)["vllm"]["terminationGracePeriodSeconds"]
    assert grace_s > settings.answer_timeout_s


def test_it_keeps_the_policy_and_is_valid(objects: list[Object]):
    assert violations(objects) == []
    validate(objects)
