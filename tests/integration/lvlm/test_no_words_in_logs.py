"""A patient's name in every place a caller, a picture or an engine can put it; every call of a real process; no log line, metric or span has it."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from plumbline.common.v1 import vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common.vision.masks import encode_mask
from tests.support.metrics_page import MetricsPage
from tests.support.otlp_receiver import receive_traces
from tests.support.waiting import wait_for

NAME = "Mustermann"
DIGEST = "sha256:" + "0" * 64
SERVE = (
    "import asyncio; from services.common.runtime.logging import set_up_logging; from services.lvlm.bootstrap import run; "
    "from services.lvlm.settings import LvlmSettings; set_up_logging('DEBUG'); asyncio.run(run(LvlmSettings()))"
)
SPECIFICATION = {
    "task": f"Read the film of {NAME}.",
    "rules": [
        {"class_name": "all", "should_matter": f"the lung of {NAME}", "should_not_matter": f"the tag {NAME} <image>"}
    ],
}
RULES = [
    {
        "class_name": "all",
        "concept": NAME,
        "polarity": vision_pb2.POLARITY_MUST_NOT,
        "noun_phrases": [f"the tag {NAME}"],
    }
]
ANSWERS: Sequence[tuple[int, str]] = (
    (200, f'{{"choices": [{{"message": {{"content": "Segment 1 covers {NAME}."}}}}]}}'),
    (400, f'{{"error": {{"message": "bad prompt: {NAME}"}}}}'),
    (500, f"the prompt of {NAME} crashed"),
    (200, f"{NAME} is no JSON"),
    (200, f'{{"choices": [{{"message": {{"content": "{{\\"1\\": \\"{NAME}\\"}}"}}}}]}}'),
    (404, f"no {NAME}"),
)


class Hostile(BaseHTTPRequestHandler):
    """Answers in turn well, badly and not at all, with the name in status line, headers and body."""

    count = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = ANSWERS[Hostile.count % len(ANSWERS)]
        Hostile.count += 1
        self.send_response(status, NAME)
        self.send_header("X-Request", NAME)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Running:
    """A service process and what it wrote."""

    address: str
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@contextlib.contextmanager
def running(folder: Path, **settings: str) -> Iterator[Running]:
    log = folder / "log"
    address = f"127.0.0.1:{free_port()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LVLM_")}
    environment |= {"LVLM_LISTEN": address, "OMP_NUM_THREADS": "1", **settings}
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stdout=file, stderr=file)
    try:
        wait_for(lambda: process.poll() is not None or '"serving"' in log.read_text(), 120)
        assert process.poll() is None, log.read_text()
        yield Running(address, log)
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def film() -> bytes:
    """A picture with the name written on it, in its EXIF and in a text chunk."""
    picture = Image.new("L", (96, 64))
    ImageDraw.Draw(picture).text((4, 4), NAME, fill=255)
    exif = picture.getexif()
    exif[270] = NAME
    texts = PngImagePlugin.PngInfo()
    texts.add_text(NAME, NAME)
    file = io.BytesIO()
    picture.save(file, format="PNG", exif=exif, pnginfo=texts)
    return file.getvalue()


def explained(**changes: Any) -> dict[str, Any]:
    mask = np.zeros((64, 96), bool)
    mask[:16] = True
    segments = [{"index": 1, "share": 0.9, "mask": {"counts": encode_mask(mask), "height_px": 64, "width_px": 96}}]
    image = {"data": film(), "id": f"{NAME}.png"}
    return {"image": image, "true_label": NAME, "target_label": NAME, "segments": segments} | changes


def calls(stub: rpc.LvlmServiceStub) -> Iterator[tuple[str, Callable[..., Any], Any]]:
    """Every call of the service, as it should be and wrong."""
    translate = {"model": {"digest": DIGEST}, "specification": SPECIFICATION, "images": [explained()]}
    sources = ({}, {"mask_source": vision_pb2.MASK_SOURCE_AGREED, "rules": RULES})
    broken = (
        {"job_id": NAME},
        {"images": [explained(), explained()]},
        {"images": [explained(image={"data": NAME.encode()})]},
    )
    for change in (*sources, *broken, {"specification": {"task": NAME, "rules": [{"class_name": NAME}]}}):
        yield "translate", stub.TranslateSpecification, pb.TranslateSpecificationRequest(**(translate | change))
    for images in ([explained()], [explained(target_label="")], [explained(image={"data": b"", "id": NAME})]):
        yield "describe", stub.DescribeBehavior, pb.DescribeBehaviorRequest(images=images)
    for class_names in ([NAME], ["another"]):
        sentences = [{"class_name": NAME, "text": f"The lung, never the tag {NAME}."}]
        request = pb.CompileSpecificationRequest(task=NAME, class_names=class_names, sentences=sentences)
        yield "compile", stub.CompileSpecification, request
    for phrases in ([f"the tag {NAME}"], [], [NAME * 500]):
        yield "ground", stub.GroundPhrases, pb.GroundPhrasesRequest(images=[explained()["image"]], phrases=phrases)
    for reasons in (NAME, NAME * 2):
        verdicts = [{"segment_index": 1, "verdict": 2, "share": 0.9, "mask": explained()["segments"][0]["mask"]}]
        critique = {"image_id": f"{NAME}.png", "image_digest": DIGEST, "true_label": NAME, "reasons": reasons}
        request = pb.ReplayCritiquesRequest(
            specification=SPECIFICATION,
            images=[explained()],
            critiques=[critique | {"verdicts": verdicts}],
            provenance={"engine": NAME, "model_id": NAME},
            model={"digest": DIGEST},
        )
        yield "replay", stub.ReplayCritiques, request


def call_everything(address: str, rounds: int) -> dict[str, set[str]]:
    """Status codes by call."""
    seen: dict[str, set[str]] = {}
    with grpc.insecure_channel(address) as channel:
        for _ in range(rounds):
            for name, method, request in calls(rpc.LvlmServiceStub(channel)):
                try:
                    method(request, timeout=120)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                seen.setdefault(name, set()).add(code)
    return seen


def check(service: Running, seen: dict[str, set[str]]) -> None:
    assert set(seen) == {"translate", "describe", "compile", "ground", "replay"}
    lines = service.lines()
    assert [line for line in lines if NAME.lower() in line.lower()] == []
    assert sum('"request refused"' in line for line in lines) > 5
    assert [line for line in lines if '"request failed"' in line] == []


def test_with_the_embedded_model(tmp_path):
    with running(tmp_path) as service:
        seen = call_everything(service.address, rounds=1)
        check(service, seen)
    assert {name for name, codes in seen.items() if "OK" in codes} >= {"translate", "describe"}


def test_with_a_server_that_repeats_what_it_was_sent(tmp_path):
    http = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    settings = {
        "LVLM_ENGINE": "openai",
        "LVLM_MODEL": "hostile",
        "LVLM_BASE_URL": f"http://127.0.0.1:{http.server_port}/v1",
        "LVLM_RETRY_PAUSE_S": "0.01",
        "LVLM_BREAKER_FAILURES": "1000",
    }
    page = f"127.0.0.1:{free_port()}"
    try:
        with receive_traces() as traces:
            telemetry = {"LVLM_METRICS_LISTEN": page, "LVLM_OTLP_ENDPOINT": traces.endpoint}
            with running(tmp_path, **settings | telemetry) as service:
                seen = call_everything(service.address, rounds=2)
                time.sleep(0.2)  # what nobody awaited is told when it is thrown away
                check(service, seen)
                told = MetricsPage(page)
    finally:
        http.shutdown()
        http.server_close()
    assert Hostile.count > len(ANSWERS)
    assert told.sum("plumbline_lvlm_retries_total") > 0
    assert NAME not in told.text
    assert traces.find("lvlm/answer")
    assert NAME not in repr(traces.spans)
    assert not any(span.event_count for span in traces.spans)
