"""Stored critiques judged again over real gRPC and through the command line; the trainer that lists them is a stand-in of one job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from plumbline.cli import app
from plumbline.client import Client
from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.errors import PlumblineError
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from plumbline.replay import replay_job
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc
from services.common.runtime.server import build_server
from services.lvlm.bootstrap import build_servicer
from services.lvlm.ports import Question
from services.lvlm.servicer import SERVICE
from services.lvlm.settings import LvlmSettings
from tests.integration.test_lvlm import DIGEST, SPECIFICATION, explained
from tests.support.fakes import ScriptedEngine

SAID = '{"1":"SPURIOUS","2":"CORE"}'
COUNT = 40


@dataclass
class Job(trainer_rpc.TrainerServiceServicer):
    """A trainer that knows one job, in pages of 16."""

    images: list[trainer_pb.CritiquedImage] = field(default_factory=list)
    way: dict[str, Any] = field(default_factory=dict)
    """Mask source and rules."""

    async def GetAlignment(self, request: trainer_pb.GetAlignmentRequest, context: Any) -> Any:
        model = {"digest": DIGEST}
        job = trainer_pb.Alignment(job_id=request.job_id, model=model, specification=SPECIFICATION, **self.way)
        return trainer_pb.GetAlignmentResponse(alignment=job)

    async def ListCritiques(self, request: trainer_pb.ListCritiquesRequest, context: Any) -> Any:
        start = int(request.page_token or 0)
        token = str(start + 16) if start + 16 < len(self.images) else ""
        return trainer_pb.ListCritiquesResponse(images=self.images[start : start + 16], next_page_token=token)


@dataclass
class Services:
    """Where they listen, what the engine says, and the job."""

    lvlm: str
    trainer: str
    job: Job
    verdicts: str = SAID

    def answer(self, question: Question) -> str:
        if question.text.startswith("ground"):
            return "[]"
        return self.verdicts if question.schema else "Segment 1 covers the square."

    def client(self) -> Client:
        return Client("127.0.0.1:1", self.lvlm, self.trainer)

    def command(self) -> Result:
        addresses = ["--explainer", "127.0.0.1:1", "--lvlm", self.lvlm, "--trainer", self.trainer]
        return CliRunner().invoke(app, [*addresses, "critiques", "replay", "job-1"], env={"COLUMNS": "200"})


@pytest.fixture
def services() -> Iterator[Services]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    opened, servers = run(start())
    store(opened)
    yield opened
    for server in servers:
        run(server.stop(None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


async def start() -> tuple[Services, list[grpc.aio.Server]]:
    settings = LvlmSettings(listen="127.0.0.1:0")
    (lvlm, _), (trainer, _) = build_server(settings, [SERVICE]), build_server(settings, [])
    ports = [server.add_insecure_port(settings.listen) for server in (lvlm, trainer)]
    opened = Services(*(f"127.0.0.1:{port}" for port in ports), Job())
    rpc.add_LvlmServiceServicer_to_server(build_servicer(settings, ScriptedEngine(opened.answer)), lvlm)
    trainer_rpc.add_TrainerServiceServicer_to_server(opened.job, trainer)
    for server in (lvlm, trainer):
        await server.start()
    return opened, [lvlm, trainer]


def store(services: Services) -> None:
    """Judge pictures and keep what came of it, as a job does."""
    images = [pb.ExplainedImage(**explained(f"{number}.png")) for number in range(COUNT)]
    with services.client() as client:
        for start in range(0, COUNT, 20):
            part = images[start : start + 20]
            reply = client.translate({"digest": DIGEST}, SPECIFICATION, part, **services.job.way)
            services.job.images += [
                trainer_pb.CritiquedImage(image=image.image, critique=critique, provenance=reply.provenance)
                for image, critique in zip(part, reply.critiques, strict=True)
            ]


def test_nothing_changed_is_told_and_leaves_with_status_0(services):
    result = services.command()
    assert result.exit_code == 0, result.output
    assert "40 of 40 critiques are the same" in result.output
    assert "nothing differs in how they came about" in result.output


def test_change_without_a_difference_is_named_by_picture_and_segment_and_leaves_with_status_1(services):
    services.verdicts = '{"1":"SPURIOUS","2":"UNSURE"}'
    result = services.command()
    assert result.exit_code == 1
    assert "0 of 40 critiques are the same" in result.output
    assert "2: CORE → UNSURE" in result.output
    assert "7.png" in result.output


def test_change_that_a_difference_explains_leaves_with_status_0(services):
    services.verdicts = '{"1":"SPURIOUS","2":"UNSURE"}'
    for image in services.job.images:
        image.provenance.prompt_digest = "sha256:of older prompts"
        image.provenance.seed = 7
    result = services.command()
    assert result.exit_code == 0, result.output
    assert "then and now differ in prompt_digest, seed" in result.output


def test_critiques_of_different_makers_are_each_compared_with_their_own(services):
    for image in services.job.images[:3]:
        image.provenance.CopyFrom(critique_pb2.Provenance(engine="person", model_id="radiologist"))
        image.critique.verdicts[1].verdict = critique_pb2.VERDICT_SPURIOUS
    with services.client() as client:
        replayed = replay_job(client, "job-1")
    changed = [image for image in replayed.images if not image.is_same]
    assert {image.stored.image_id for image in changed} == {"0.png", "1.png", "2.png"}
    assert {image.differences for image in changed} == {("engine", "model_id", "prompt_digest")}
    assert replayed.broken == ()


def test_job_is_judged_again_in_its_own_way_by_its_own_rules(services):
    rule = {"class_name": "all", "polarity": vision_pb2.POLARITY_MUST_NOT, "noun_phrases": ["the grey square"]}
    services.job.way = {"mask_source": "MASK_SOURCE_AGREED", "rules": [rule]}
    services.job.images.clear()
    store(services)
    stored = {verdict.verdict for image in services.job.images for verdict in image.critique.verdicts}
    assert stored == {critique_pb2.VERDICT_UNSURE}, "the judge alone says otherwise"
    result = services.command()
    assert "40 of 40 critiques are the same" in result.output


def test_picture_that_changed_is_refused_by_its_name(services):
    services.job.images[33].critique.image_digest = "sha256:" + "1" * 64
    with services.client() as client, pytest.raises(PlumblineError, match=r"'33\.png' changed since it was judged"):
        replay_job(client, "job-1")


def test_critique_without_segments_is_left_out_and_named(services):
    services.job.images[5].critique.ClearField("verdicts")
    result = services.command()
    assert result.exit_code == 0
    assert "39 of 39 critiques are the same" in result.output
    assert "no segments are kept: 5.png" in result.output


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": {"digest": "sha256:short"}}, "model.digest"),
        ({"critiques": []}, "critiques"),
        ({"images": []}, "images"),
        ({"mask_source": vision_pb2.MASK_SOURCE_GROUNDED}, "rules"),
    ],
    ids=["no digest", "no critiques", "no pictures", "no rules"],
)
def test_incomplete_request_is_refused_at_its_field(services, change, field):
    stored = services.job.images[0]
    content = {
        "specification": SPECIFICATION,
        "images": [explained("0.png")],
        "critiques": [stored.critique],
        "provenance": stored.provenance,
        "model": {"digest": DIGEST},
    }
    with services.client() as client, pytest.raises(PlumblineError) as caught:
        client.replay(pb.ReplayCritiquesRequest(**(content | change)))
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)
