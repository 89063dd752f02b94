"""Fixtures that start what they need: one real stack per session, ended with it however the session ends."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plumbline.client import Client
from plumbline.stack.control import tied_stack
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import free_port
from tests.support.otlp_receiver import OtlpReceiver, receive_traces


@dataclass(frozen=True)
class Served:
    """The running stack with a model on it that takes the shortcut, and the pictures it was trained on (`decoy`)."""

    layout: StackLayout
    client: Client
    name: str
    pictures: list[tuple[str, bytes]]
    labels: list[str]


@pytest.fixture(scope="session")
def traces() -> Iterator[OtlpReceiver]:
    """Where the stack sends its traces."""
    with receive_traces() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """Where explainer and LVLM service of the stack tell their metrics, host:port."""
    return {service: f"127.0.0.1:{free_port()}" for service in ("explainer", "lvlm")}


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, traces: OtlpReceiver, pages: dict[str, str]
) -> Iterator[StackLayout]:
    """Real Redis, Triton, explainer, LVLM service, trainer and worker."""
    with contextlib.ExitStack() as running:
        with pytest.MonkeyPatch.context() as environment:
            for service in ("EXPLAINER", "LVLM", "TRAINER"):
                environment.setenv(f"{service}_OTLP_ENDPOINT", traces.endpoint)
            for service, address in pages.items():
                environment.setenv(f"{service.upper()}_METRICS_LISTEN", address)
            layout = running.enter_context(tied_stack(tmp_path_factory.mktemp("stack")))
        yield layout


@pytest.fixture(scope="session")
def served(stack: StackLayout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A published shortcut model and its data set."""
    from benchmarks.decoy.data import load_splits, write_imagefolder
    from benchmarks.decoy.shortcut_model import train_shortcut_model, write_bundle
    from plumbline.stack.bundles import store_bundle

    digits = load_splits("digits").train
    folder = tmp_path_factory.mktemp("model") / "bundle"
    write_bundle(folder, train_shortcut_model(digits, seed=0, epochs=100), digits, seed=0, epochs=100)
    write_imagefolder(stack.data / "decoy", digits, with_truth=False)
    names = [f"images/{index:05d}.png" for index in range(len(digits.labels))]
    with Client(stack.explainer, stack.lvlm, stack.trainer) as client:
        path, digest = store_bundle(stack.store, "digits", folder)
        client.publish("digits", path, 0, f"tests-{digest}")
        yield Served(
            layout=stack,
            client=client,
            name="digits",
            pictures=[(name, (stack.data / "decoy" / name).read_bytes()) for name in names],
            labels=[str(label) for label in digits.labels],
        )


def png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start servers say so by where they lie."""
    root = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(root / "integration") or item.path.is_relative_to(root / "e2e"):
            item.add_marker(pytest.mark.integration)
