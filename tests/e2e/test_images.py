"""The images as their Dockerfiles say, started as their manifests say, do the main job together.

No engine: see `tests.support.images`. Needs root and the package index. With PLUMBLINE_IMAGE_BASE, a folder with a Debian such as the base image's, what the
images lack in libraries shows too; else this machine's serve.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from packaging.utils import canonicalize_name

from benchmarks.decoy.data import load_splits, write_imagefolder
from benchmarks.decoy.shortcut_model import train_shortcut_model, write_bundle
from plumbline.client import Client
from plumbline.health import is_serving
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Child, Command, free_port, start, stop, tail
from plumbline.stack.redis import redis_command
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from tests.support.dockerfile import DOCKERFILES, read_dockerfile
from tests.support.images import Builder, Image, size_mb
from tests.support.manifests import K8S, Object, render
from tests.support.pods import read_pod
from tests.support.sbom import find_needs, read_extras
from tests.support.waiting import wait_for

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

START_S = 180.0
JOB_S = 600.0
SERVICES = {"explainer": "explainer", "lvlm": "lvlm", "trainer-api": "trainer"}
"""Deployments that answer gRPC's health, with the field of their address in `StackLayout`."""
RULE = {"class_name": "all", "should_matter": "the strokes of the digit", "should_not_matter": "the grey square"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Image]]:
    """All images, built one after the other; gone afterwards, for they take gigabytes."""
    assert os.geteuid() == 0, "needs root, to mount and to change the root: sudo make images-check"
    work = tmp_path_factory.mktemp("images")
    # What pytest makes is for its user alone.
    for folder in (work, *work.parents[:2]):
        folder.chmod(0o755)
    builder = Builder(work, Path(os.environ.get("PLUMBLINE_IMAGE_BASE", "/")))
    try:
        yield {name: builder.build(name, path) for name, path in DOCKERFILES.items()}
    finally:
        shutil.rmtree(work)


@pytest.fixture(scope="module")
def manifests() -> list[Object]:
    return render(K8S / "base")


class Cluster:
    """The pods of the manifests as processes on loopback, their volumes below `layout.state`."""

    def __init__(self, images: dict[str, Image], manifests: list[Object], layout: StackLayout) -> None:
        self.layout = layout
        self._images = images
        self._manifests = manifests
        self._addresses = {
            "0.0.0.0:7001": layout.explainer,
            "0.0.0.0:7002": layout.lvlm,
            "0.0.0.0:7003": layout.trainer,
            "explainer:7001": layout.explainer,
            "lvlm:7002": layout.lvlm,
            "127.0.0.1:8001": layout.triton,
            "redis:6379": layout.redis,
        }
        ports = (layout.triton.rpartition(":")[2], free_port())
        self._more_arguments = {"triton": [f"--grpc-port={ports[0]}", f"--http-port={ports[1]}"]}
        self.children: dict[str, Child] = {}

    def start_redis(self) -> None:
        command = redis_command(self.layout.state, int(self.layout.redis.rpartition(":")[2]))
        self.children["redis"] = start(command, self.layout.logs)

    def start(self, deployment: str) -> None:
        """Start a pod's containers, and wait for a sidecar as kubelet does."""
        containers = read_pod(self._manifests, deployment, self.layout.state / "volumes", self._addresses)
        for name, container in containers.items():
            arguments = [*container.arguments, *self._more_arguments.get(name, [])]
            words = self._images[container.image].command(
                arguments, container.settings, container.mounts, container.user
            )
            self.children[name] = start(Command(name, words), self.layout.logs)
            if name == "triton":
                wait_for(self._is_triton_up, START_S)

    def told(self, container: str) -> str:
        return tail(self.layout.logs / f"{container}.log", 30)

    def _is_triton_up(self) -> bool:
        assert self.children["triton"].process.poll() is None, self.told("triton")
        return is_serving(self.layout.triton)


@pytest.fixture(scope="module")
def cluster(
    images: dict[str, Image], manifests: list[Object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    layout = StackLayout.on_free_ports(tmp_path_factory.mktemp("cluster"))
    running = Cluster(images, manifests, layout)
    try:
        running.start_redis()
        for deployment in (*SERVICES, "trainer-worker"):
            running.start(deployment)
        yield running
    finally:
        stop(list(running.children.values()))


def _is_serving(stub: health_pb2_grpc.HealthStub, child: Child, cluster: Cluster) -> bool:
    assert child.process.poll() is None, cluster.told(child.command.name)
    try:
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.SERVING
    except grpc.RpcError:
        return False


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_holds_what_its_own_extras_bring_and_no_more(images: dict[str, Image], name: str):
    pip = ["python", "-m", "pip", "--no-cache-dir", "--disable-pip-version-check"]
    lines = images[name].run(*pip, "list", "--format=freeze").splitlines()
    installed = {canonicalize_name(re.split(r"==| @ ", line)[0]) for line in lines}
    # As its bill of materials says.
    assert installed - {"pip"} == find_needs(read_extras(read_dockerfile(DOCKERFILES[name])[0])).keys()
    assert "No broken requirements" in images[name].run(*pip, "check")
    log.info("%s: %d packages, %d MB", name, len(installed), size_mb(images[name].files / "opt"))


@pytest.mark.parametrize("deployment", SERVICES)
def test_a_service_answers_health_as_a_user_without_rights_who_can_write_nothing(cluster: Cluster, deployment: str):
    child = cluster.children[deployment]
    with grpc.insecure_channel(getattr(cluster.layout, SERVICES[deployment])) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        wait_for(lambda: _is_serving(stub, child, cluster), START_S)
    process = psutil.Process(child.process.pid)
    assert set(process.uids()) == {10001}
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    mounts = [line.split() for line in Path(f"/proc/{process.pid}/mounts").read_text().splitlines()]
    root, venv = (next(fields[3] for fields in mounts if fields[1] == path) for path in ("/", "/opt"))
    assert root.startswith("ro,")
    assert venv.startswith("ro,")
    log.info("%s: %.0f MiB resident after its start", deployment, process.memory_info().rss / 2**20)


def test_all_images_together_turn_a_sentence_into_a_decision_on_a_new_version(cluster: Cluster, tmp_path: Path):
    layout = cluster.layout
    volumes = layout.state / "volumes"
    digits = load_splits("digits").train
    bundle = tmp_path / "bundle"
    write_bundle(bundle, train_shortcut_model(digits, seed=0, epochs=100), digits, seed=0, epochs=100)
    write_imagefolder(volumes / "plumbline-data" / "decoy", digits, with_truth=False)
    path, digest = store_bundle(volumes / "plumbline-store", "digits", bundle)
    # We are root, and a volume belongs to the pods' user.
    subprocess.run(["chown", "-R", "10001:10001", volumes / "plumbline-store"], check=True)
    with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
        client.publish("digits", path, 0, digest)
        job = client.submit(
            pb.SubmitAlignmentRequest(
                idempotency_key="images",
                model={"name": "digits"},
                dataset_path="decoy",
                specification={"task": "Read the digit.", "rules": [RULE]},
                options={"images_per_class": 4, "epochs": 1},
            )
        )
        last = list(client.watch(job.job_id, JOB_S))[-1]
    logs = "\n".join(cluster.told(name) for name in cluster.children)
    assert last.state in (pb.JOB_STATE_PUBLISHED, pb.JOB_STATE_REJECTED), f"{last.reason}\n{logs}"


@pytest.mark.parametrize("container", [*SERVICES, "trainer-worker", "triton"])
def test_a_container_that_is_told_to_ends_by_itself(cluster: Cluster, container: str):
    process = cluster.children[container].process
    process.terminate()
    assert process.wait(60) in (0, -15), cluster.told(container)
