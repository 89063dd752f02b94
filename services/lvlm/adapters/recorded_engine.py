"""Record any engine's answers, and answer from a recording.

A recording is a folder of JSONL files, one per process that wrote to it, only ever appended to. A line holds the digest of a
question, the answer or the refusal, and who gave it; neither prompt nor pixel.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from services.common.runtime.errors import BadModelOutput, Unavailable, WrongState
from services.lvlm.ports import Engine, Question

_ANSWER, _REFUSAL = "answer", "refusal"


def digest_question(question: Question) -> str:
    """`sha256:<hex>` over all that an answer depends on: text, pictures' pixels, schema, seed, attempt and longest answer."""
    content = {
        "text": question.text,
        "images": [_digest_image(image) for image in question.images],
        "schema": question.schema,
        "seed": question.seed,
        "attempt": question.attempt,
        "max_new_tokens": question.max_new_tokens,
    }
    return _sha256(json.dumps(content).encode())  # the schema's order counts: answers come in it


def _digest_image(image: Image.Image) -> str:
    return _sha256(f"{image.mode} {image.width}x{image.height} ".encode() + image.tobytes())


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class RecordingEngine:
    """`engine`, whose answers and refusals of questions are written down as well; its name and model are those of `engine`."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        """Start a file of its own in `folder`, which need not be there. Opening and closing `engine` is its owner's."""
        self.name = engine.name
        self.model_id = engine.model_id
        self._engine = engine
        self._file = _create_file(folder)

    def __enter__(self) -> RecordingEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def answer(self, question: Question) -> str:
        """See the port.

        Raises
        ------
        Unavailable
            When the answer can't be written down: an answer that a replay would miss is not handed out.
        """
        try:
            answer = await self._engine.answer(question)
        except BadModelOutput as refusal:
            self._write(question, {_REFUSAL: refusal.message})
            raise
        self._write(question, {_ANSWER: answer})
        return answer

    def _write(self, question: Question, reply: Mapping[str, str]) -> None:
        line = {"question": digest_question(question), **reply, "engine": self.name, "model_id": self.model_id}
        try:
            _append(self._file, f"{json.dumps(line)}\n".encode())
        except OSError as error:
            raise Unavailable(f"the answer can't be recorded: {error.strerror}; see LVLM_RECORD_TO") from error


class RecordedEngine:
    """Answers from a recording, as the model that was recorded. Of several replies to one question the last written counts."""

    name = "recorded"

    def __init__(self, folder: Path) -> None:
        """Read the recording.

        Raises
        ------
        WrongState
            When it holds nothing, more than one model's answers, or a line that can't be read.
        """
        lines = list(_read_lines(folder))
        models = sorted({line["model_id"] for line in lines})
        if len(models) != 1:
            held = (
                f"answers of {', '.join(models)}; record each model into a folder of its own" if models else "no answer"
            )
            raise WrongState(f"the recording {folder} holds {held} (LVLM_RECORDING)")
        self.model_id = models[0]
        self._folder = folder
        self._replies = {line["question"]: line for line in lines}

    async def __aenter__(self) -> RecordedEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def answer(self, question: Question) -> str:
        """See the port.

        Raises
        ------
        WrongState
            When the recording has not seen this question.
        BadModelOutput
            When the model refused it.
        """
        digest = digest_question(question)
        reply = self._replies.get(digest)
        if reply is None:
            raise WrongState(
                f"the recording {self._folder} has no answer to question {digest}: picture, prompt, seed or segments are "
                "others than when it was made; record again (LVLM_RECORD_TO)"
            )
        if _REFUSAL in reply:
            raise BadModelOutput(reply[_REFUSAL])
        return reply[_ANSWER]


def _create_file(folder: Path) -> io.FileIO:
    folder.mkdir(parents=True, exist_ok=True)
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return (folder / f"{started}-{os.getpid()}.jsonl").open("xb", buffering=0)


def _append(file: io.FileIO, line: bytes) -> None:
    """Write all of `line`, or raise `OSError` and leave none of it: the next line must not go on from half of this one."""
    end = file.tell()
    try:
        while line:  # a disk that fills up takes a part first and fails then
            line = line[file.write(line) :]
    except OSError:
        file.seek(end)
        file.truncate()
        raise


def _read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number, text in enumerate(lines, start=1):
            if text.endswith("\n"):  # a torn last line is of a process that was killed while it wrote
                yield _read_line(text, f"{path}:{number}")


def _read_line(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
        is_whole = {"question", "model_id"} <= line.keys() and (_ANSWER in line) != (_REFUSAL in line)
    except (ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        raise WrongState(f"{where} is no line of a recording (LVLM_RECORDING)")
    return line
