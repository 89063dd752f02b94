"""What the servers of `side_by_side` have in common: captum's answer to a picture, and how they are told what to serve."""

from __future__ import annotations

import argparse
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastapi
import torch

from benchmarks.explainer.cases import Work

LABEL_HEADER = "x-label"
Answer = tuple[str, bytes]
"""The predicted class and its map, float32."""


class Answering:
    """Files to answers by captum."""

    def __init__(self, bundle: Path, method: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._work = Work(bundle, method)

    def __call__(self, files: Sequence[bytes]) -> list[Answer]:
        """An answer for each of `files`, all in one call of captum."""
        logits, maps = self._work.explain_captum(self._work.read(files))
        labels = [self._work.labels[row] for row in logits.argmax(dim=1).tolist()]
        return [(label, found.numpy().tobytes()) for label, found in zip(labels, maps, strict=True)]


def read_file(body: dict[str, Any]) -> bytes:
    """The picture's file in a request's JSON."""
    return base64.b64decode(body["image"])


def to_response(answer: Answer) -> fastapi.Response:
    """The map's bytes, the class in a header."""
    label, found = answer
    return fastapi.Response(found, media_type="application/octet-stream", headers={LABEL_HEADER: label})


def read_arguments(description: str | None) -> argparse.Namespace:
    """What to serve, and where."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    return parser.parse_args()
