"""Sentences to a confirmed specification, over real gRPC and through the command line; the engine is scripted, so that it is the rest that is tried."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner, Result

from plumbline.cli import app
from plumbline.client import Client
from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from plumbline.specification import load_specification
from services.common.runtime.server import build_server
from services.lvlm.bootstrap import build_servicer
from services.lvlm.ports import Question
from services.lvlm.servicer import SERVICE
from services.lvlm.settings import LvlmSettings
from tests.support.fakes import ScriptedEngine

SENTENCES = """
task: Read the handwritten digit.
classes: ["1", "3"]
sentences:
  "3": The strokes, not the grey square in the corner.
  all: Never use the price [of the scanner].
"""
SAID = {
    "3": {
        "must": [{"concept": "digit", "phrase": "the strokes"}],
        "must_not": [{"concept": "square", "phrase": "the grey square in the corner"}],
    },
    "all": {"must": [], "must_not": [{"concept": "unknown", "phrase": "the price [of the scanner]"}]},
}
NOTHING = {"must": [], "must_not": []}


class Lvlm:
    """An LVLM service whose engine answers as `said` tells per class."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.said: dict[str, object] = {}

    def answer(self, question: Question) -> str:
        name = question.text.split("class: ")[1].split("\n")[0]
        return json.dumps(self.said[name])


@pytest.fixture(scope="module")
def served() -> Iterator[Lvlm]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    lvlm, server = run(start())
    yield lvlm
    run(server.stop(None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


async def start() -> tuple[Lvlm, grpc.aio.Server]:
    settings = LvlmSettings(listen="127.0.0.1:0")
    server, _ = build_server(settings, [SERVICE])
    lvlm = Lvlm(f"127.0.0.1:{server.add_insecure_port(settings.listen)}")
    rpc.add_LvlmServiceServicer_to_server(build_servicer(settings, ScriptedEngine(lvlm.answer)), server)
    await server.start()
    return lvlm, server


@pytest.fixture
def lvlm(served: Lvlm) -> Lvlm:
    served.said = dict(SAID)
    return served


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.yaml"
    path.write_text(SENTENCES)
    return path


def compile_file(lvlm: Lvlm, sentences: Path, out: Path, *options: str, typed: str = "") -> Result:
    addresses = ["--explainer", "127.0.0.1:1", "--lvlm", lvlm.address, "--trainer", "127.0.0.1:1"]
    arguments = [*addresses, "specification", "compile", str(sentences), "--out", str(out), *options]
    return CliRunner().invoke(app, arguments, input=typed, env={"COLUMNS": "200"})


def compile_sentences(lvlm: Lvlm, sentences: dict[str, str]) -> pb.CompileSpecificationResponse:
    with Client("127.0.0.1:1", lvlm.address, "127.0.0.1:1") as client:
        return client.compile("Read.", ["1", "3"], sentences)


def test_rules_and_specification_come_with_what_made_them(lvlm):
    reply = compile_sentences(lvlm, {"3": "The strokes, not the grey square in the corner."})
    assert [(rule.concept, rule.polarity, list(rule.noun_phrases)) for rule in reply.rules] == [
        ("digit", vision_pb2.POLARITY_MUST, ["The strokes"]),
        ("square", vision_pb2.POLARITY_MUST_NOT, ["the grey square in the corner"]),
    ]
    (rule,) = reply.specification.rules
    assert (rule.should_matter, rule.should_not_matter) == ("The strokes", "the grey square in the corner")
    assert (reply.specification.task, reply.provenance.engine) == ("Read.", "scripted")


def test_every_fault_is_told_with_its_field(lvlm):
    lvlm.said = {"1": NOTHING, "3": NOTHING}
    with pytest.raises(PlumblineError) as caught:
        compile_sentences(lvlm, {"3": "Be careful.", "1": "Hm."})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert [field for field, _ in caught.value.faults] == ["sentences[0].text", "sentences[1].text"]
    assert "no rule was found in: 'Be careful.'" in caught.value.faults[0][1]


def test_confirmed_rules_are_written_as_a_specification_that_jobs_take(lvlm, sentences, tmp_path):
    result = compile_file(lvlm, sentences, tmp_path / "made" / "spec.yaml", typed="y\n")
    assert result.exit_code == 0, result.output
    file = load_specification(tmp_path / "made" / "spec.yaml")
    assert [rule.class_name for rule in file.specification.rules] == ["3", "all"]
    assert [rule.concept for rule in file.rules] == ["digit", "square", "unknown"]


def test_rules_are_shown_and_unknown_words_stand_out(lvlm, sentences, tmp_path):
    shown = compile_file(lvlm, sentences, tmp_path / "spec.yaml", "--yes").output
    assert "must not rest on" in shown
    assert "the language model has no word for 'the price [of the scanner]'" in shown


@pytest.mark.parametrize("typed", ["n\n", ""], ids=["no", "nobody there"])
def test_nothing_is_written_unless_a_person_says_yes(lvlm, sentences, tmp_path, typed):
    out = tmp_path / "spec.yaml"
    out.write_text("mine")
    result = compile_file(lvlm, sentences, out, typed=typed)
    assert result.exit_code == 1
    assert "replaces" in result.output
    assert out.read_text() == "mine"


def test_refusal_names_file_class_and_words(lvlm, sentences, tmp_path):
    lvlm.said["3"] = {"must": SAID["3"]["must_not"], "must_not": SAID["3"]["must_not"]}
    lvlm.said["all"] = NOTHING
    result = compile_file(lvlm, sentences, tmp_path / "spec.yaml", "--yes")
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert "sentences.3: class '3': 'the grey square in the corner' must matter and 'the grey square" in told
    assert "sentences.all: class 'all': no rule was found in: 'Never use the price" in told
    assert not (tmp_path / "spec.yaml").exists()


def test_unknown_class_is_named_with_the_nearest(lvlm, sentences, tmp_path):
    sentences.write_text(SENTENCES.replace('["1", "3"]', '["1", "33"]'))
    told = " ".join(compile_file(lvlm, sentences, tmp_path / "spec.yaml").output.split())
    assert "sentences.3: the model has no class '3'; the nearest is '33'; it has 1, 33" in told
