"""Phrases and masks over real gRPC: a server with a scripted language model, our client, the command line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.client import Client
from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.errors import PlumblineError
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common.runtime.server import build_server
from services.common.vision.masks import decode_mask, encode_mask
from services.common.vision.preprocessing import ImageLimits
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine, build_grounding
from services.lvlm.handlers.compiling import Compiling
from services.lvlm.handlers.describing import Describing
from services.lvlm.handlers.translating import Translating
from services.lvlm.ports import Engine, Question
from services.lvlm.servicer import SERVICE, LvlmServicer
from services.lvlm.settings import LvlmSettings
from tests.conftest import png
from tests.support.fakes import ScriptedEngine

NOWHERE = "127.0.0.1:1"
DIGEST = "sha256:" + "0" * 64
SQUARE, STROKE = (slice(0, 4), slice(0, 4)), (slice(6, 22), slice(13, 16))
SAID = {
    "grey square": '[{"bbox_2d":[0,0,143,143]}]',
    "stroke": '[{"bbox_2d":[464,214,571,786]}]',
    "moon": "[]",
    "fog": "hm",
}
SETTINGS = LvlmSettings(listen="127.0.0.1:0")


def answer(question: Question) -> str:
    if question.text.startswith("ground"):
        return next(said for phrase, said in SAID.items() if phrase in question.text)
    return '{"1":"SPURIOUS","2":"SPURIOUS"}' if question.schema else "Segment 1 covers the square."


def build_servicer(engine: Engine) -> LvlmServicer:
    profile = load_profile(SETTINGS.profile)
    grounding = build_grounding(SETTINGS, engine, profile)
    return LvlmServicer(
        Translating(engine, profile, None, 0, grounding),
        Describing(engine, profile, 0),
        Compiling(engine, profile, 0),
        grounding,
        ImageLimits(),
    )


async def start_server(engine: Engine) -> tuple[grpc.aio.Server, str]:
    server, _ = build_server(SETTINGS, [SERVICE])
    rpc.add_LvlmServiceServicer_to_server(build_servicer(engine), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server with the scripted language model, on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server, listening = asyncio.run_coroutine_threadsafe(start_server(ScriptedEngine(answer)), loop).result(10)
    yield listening
    asyncio.run_coroutine_threadsafe(server.stop(1), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def client(address) -> Iterator[Client]:
    with Client(NOWHERE, address, NOWHERE) as opened:
        yield opened


def drawn() -> np.ndarray:
    picture = np.zeros((28, 28), np.uint8)
    picture[SQUARE], picture[STROKE] = 130, 255
    return picture


def test_phrases_are_told_picture_by_picture_as_found_absent_or_failed(client):
    images = [("a.png", png(drawn())), ("b.png", png(drawn()))]
    found = client.ground(images, ["grey square", "moon", "fog"])
    assert [(item.image_id, item.phrase) for item in found] == [
        (name, phrase) for name in ("a.png", "b.png") for phrase in ("grey square", "moon", "fog")
    ]
    square, moon, fog = found[:3]
    assert square.state == pb.GROUNDING_STATE_FOUND
    assert square.boxes == [pb.Box(top_px=0, left_px=0, bottom_px=4, right_px=4)]
    mask = decode_mask(square.mask.counts, square.mask.height_px, square.mask.width_px)
    assert np.array_equal(mask, drawn() == 130)
    assert (moon.state, list(moon.boxes), moon.HasField("mask")) == (pb.GROUNDING_STATE_ABSENT, [], False)
    assert (fog.state, list(fog.boxes), fog.HasField("mask")) == (pb.GROUNDING_STATE_FAILED, [], False)
    assert fog.failure


def test_any_number_of_pictures_is_asked_in_parts(client):
    found = client.ground([(f"{number}.png", png(drawn())) for number in range(40)], ["moon"])
    assert [item.image_id for item in found] == [f"{number}.png" for number in range(40)]


WRONG = {
    "no picture": ({"images": []}, "images"),
    "thirty-three pictures": ({"images": [{"id": f"{n}", "data": png(drawn())} for n in range(33)]}, "images"),
    "not a picture": ({"images": [{"id": "x", "data": b"text"}]}, "images[0].data"),
    "same id twice": ({"images": [{"data": png(drawn())}, {"data": png(drawn())}]}, "images[1].id"),
    "no phrase": ({"phrases": []}, "phrases"),
    "seventeen phrases": ({"phrases": ["moon"] * 17}, "phrases"),
    "blank phrase": ({"phrases": ["moon", " \n"]}, "phrases[1]"),
    "long phrase": ({"phrases": ["m" * 201]}, "phrases[0]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_request_is_refused_with_its_field(address, name):
    changes, field = WRONG[name]
    content = {"images": [{"id": "a", "data": png(drawn())}], "phrases": ["moon"]} | changes
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        rpc.LvlmServiceStub(channel).GroundPhrases(pb.GroundPhrasesRequest(**content), timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{field}:")


def translate(client: Client, mask_source: str | int, **changes) -> pb.TranslateSpecificationResponse:
    masks = np.zeros((2, 28, 28), bool)
    masks[0][SQUARE] = masks[1][STROKE] = True
    segments = [
        {"index": number, "share": 0.5, "mask": {"counts": encode_mask(mask), "height_px": 28, "width_px": 28}}
        for number, mask in enumerate(masks, start=1)
    ]
    image = pb.ExplainedImage(
        image={"data": png(drawn()), "id": "a"}, true_label="1", target_label="1", segments=segments
    )
    specification = vision_pb2.ClassSpecification(
        task="t", rules=[{"class_name": "all", "should_matter": "the stroke", "should_not_matter": "the grey square"}]
    )
    rules = [
        vision_pb2.TypedRule(class_name="all", polarity=vision_pb2.POLARITY_MUST, noun_phrases=["the stroke"]),
        vision_pb2.TypedRule(class_name="all", polarity=vision_pb2.POLARITY_MUST_NOT, noun_phrases=["the grey square"]),
    ]
    options = {"mask_source": mask_source, "rules": rules} | changes
    return client.translate(vision_pb2.ModelVersion(digest=DIGEST), specification, [image], **options)


S, C, U, NONE = (
    critique_pb2.VERDICT_SPURIOUS,
    critique_pb2.VERDICT_CORE,
    critique_pb2.VERDICT_UNSURE,
    critique_pb2.VERDICT_UNSPECIFIED,
)


@pytest.mark.parametrize(
    ("mask_source", "expected"),
    [
        ("MASK_SOURCE_UNSPECIFIED", [(S, NONE, NONE), (S, NONE, NONE)]),
        ("MASK_SOURCE_JUDGED", [(S, NONE, NONE), (S, NONE, NONE)]),
        ("MASK_SOURCE_GROUNDED", [(S, NONE, NONE), (C, NONE, NONE)]),
        ("MASK_SOURCE_AGREED", [(S, S, S), (U, S, C)]),
    ],
)
def test_masks_come_about_as_asked_and_agreed_ones_show_both_verdicts(client, mask_source, expected):
    (critique,) = translate(client, mask_source).critiques
    told = [(verdict.verdict, verdict.judged_verdict, verdict.grounded_verdict) for verdict in critique.verdicts]
    assert told == expected


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rules": []}, "rules"),
        ({"rules": [vision_pb2.TypedRule(class_name="all", noun_phrases=["moon"])]}, "rules[0].polarity"),
        (
            {"rules": [vision_pb2.TypedRule(polarity=vision_pb2.POLARITY_MUST, noun_phrases=["moon"])]},
            "rules[0].class_name",
        ),
        (
            {"rules": [vision_pb2.TypedRule(class_name="all", polarity=vision_pb2.POLARITY_MUST)]},
            "rules[0].noun_phrases",
        ),
    ],
)
def test_rules_that_can_not_be_looked_for_are_refused_with_their_field(client, changes, field):
    with pytest.raises(PlumblineError) as caught:
        translate(client, "MASK_SOURCE_GROUNDED", **changes)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)


def test_way_that_there_is_not_is_refused(client):
    with pytest.raises(PlumblineError) as caught:
        translate(client, 9)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "mask_source")


def test_command_line_shows_what_was_found_and_draws_it(address, tmp_path: Path):
    picture = tmp_path / "a.png"
    picture.write_bytes(png(drawn()))
    where = ["--explainer", NOWHERE, "--lvlm", address, "--trainer", NOWHERE]
    asked = ["ground", str(picture), "--phrase", "grey square", "--phrase", "moon"]
    told = CliRunner().invoke(app, [*where, *asked, "--out", str(tmp_path / "found"), "--json"])
    assert told.exit_code == 0, told.output
    square, moon = json.loads(told.output)
    assert square["boxes"] == [{"top_px": 0, "left_px": 0, "bottom_px": 4, "right_px": 4, "is_whole": False}]
    assert moon == {"picture": "a.png", "phrase": "moon", "state": "ABSENT"}
    (overlay,) = (tmp_path / "found").iterdir()
    red, green, _ = np.moveaxis(np.asarray(Image.open(overlay)).astype(int), 2, 0)
    assert np.array_equal(red > green, drawn() == 130)
    table = CliRunner().invoke(app, [*where, *asked])
    assert "ABSENT" in table.output


async def test_embedded_model_answers_in_one_of_three_states():
    async with build_engine(SETTINGS) as engine:
        found = await build_grounding(SETTINGS, engine, load_profile(SETTINGS.profile)).ground(drawn(), ["the square"])
    assert [(item.phrase, bool(item.mask), bool(item.failure)) for item in found] == [
        ("the square", found[0].state.value == "FOUND", found[0].state.value == "FAILED")
    ]
