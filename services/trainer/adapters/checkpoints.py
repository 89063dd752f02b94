"""Checkpoints of a job's training in the artifact store: jobs/<id>/checkpoints/<step>.safetensors, what is no tensor as JSON in its header."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, NotFound, Unavailable
from services.trainer.adapters.job_record import checkpoints_path
from services.trainer.domain.alignment import Checkpoint, Trial
from services.trainer.domain.evidence import Evidence
from services.trainer.domain.fine_tuning import Setting
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.run_state import RunState

log = logging.getLogger(__name__)

FORMAT = 1
"""Rises with every change of what a checkpoint holds or of what the steps after it do: older ones are refused then."""
KEPT_COUNT = 2
_HEADER = "checkpoint"
_SUFFIX = ".safetensors"


class _Refused(Exception):
    """A checkpoint that can't be gone on from; says why."""


class Checkpoints:
    """Of one job; `inputs` is the digest (`digest_inputs`) of what its training gets."""

    def __init__(self, store: ArtifactStore, job_id: str, inputs: str) -> None:
        self._store = store
        self._folder = checkpoints_path(job_id)
        self._job_id = job_id
        self._inputs = inputs

    def write(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, and of the older ones the newest. A store that does not take it costs a warning, not the training."""
        header = json.dumps({"format": FORMAT, "inputs": self._inputs} | _tell(checkpoint))
        try:
            self._store.create(
                f"{self._folder}/{checkpoint.step:09d}{_SUFFIX}",
                save(dict(_name_tensors(checkpoint)), metadata={_HEADER: header}),
            )
            for name in list(self._store.list(self._folder))[:-KEPT_COUNT]:
                self._store.remove(f"{self._folder}/{name}")
        except AlreadyExists:
            pass  # a training that goes on from here, told to stop at once
        except Unavailable as error:
            log.warning("checkpoint not written", extra={"job_id": self._job_id, "cause": error.message})

    def latest(self) -> Checkpoint | None:
        """The newest that can be gone on from. Newer ones that can't are removed: what is trained from here on takes their names."""
        for name in sorted(self._store.list(self._folder), reverse=True):
            path = f"{self._folder}/{name}"
            try:
                return self._read(path)
            except _Refused as error:
                log.warning("checkpoint refused", extra={"job_id": self._job_id, "object": name, "cause": str(error)})
                self._store.remove(path)
        return None

    def _read(self, path: str) -> Checkpoint:
        try:
            with self._store.fetch(path) as local, safe_open(local, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_HEADER])
                if header["format"] != FORMAT:
                    raise _Refused(f"it is of format {header['format']}, not {FORMAT}")
                if header["inputs"] != self._inputs:
                    raise _Refused("it belongs to other inputs")
                return _build(header, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (NotFound, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise _Refused(f"it can't be read: {type(error).__name__}") from error


def digest_inputs(request: str, step_count: int, weights: Mapping[str, torch.Tensor], *parts: Pictures) -> str:
    """SHA-256 over all that a training rests on: the job's request as JSON, its length, the first weights and the pictures with their masks."""
    total = hashlib.sha256(json.dumps([request, step_count, list(weights)]).encode())
    pictures = [tensor for part in parts for tensor in (part.pixels, part.labels, part.masks) if tensor is not None]
    for tensor in [*weights.values(), *pictures]:
        total.update(json.dumps([str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.detach().contiguous().numpy().data)
    return f"sha256:{total.hexdigest()}"


def _tell(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is no tensor."""
    return {
        "step": checkpoint.step,
        "trials": [asdict(trial) for trial in checkpoint.trials],
        "run": {"step": checkpoint.run.step, "schedule": checkpoint.run.schedule},
        "highest": checkpoint.highest,
        "kept": asdict(checkpoint.kept[0]) if checkpoint.kept else None,
    }


def _name_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    yield "draws", checkpoint.run.draws
    for name, tensor in checkpoint.run.weights.items():
        yield f"weights/{name}", tensor
    for number, moments in checkpoint.run.moments.items():
        for name, tensor in moments.items():
            yield f"moments/{number}/{name}", tensor.contiguous()
    if checkpoint.kept:
        for name, tensor in checkpoint.kept[1].items():
            yield f"kept/{name}", tensor


def _build(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Checkpoint:
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for path, tensor in _below("moments/", tensors).items():
        number, name = path.split("/")
        moments.setdefault(int(number), {})[name] = tensor
    run = header["run"]
    return Checkpoint(
        header["step"],
        tuple(_build_trial(trial) for trial in header["trials"]),
        RunState(run["step"], _below("weights/", tensors), moments, run["schedule"], tensors["draws"]),
        header["highest"] and tuple(header["highest"]),
        header["kept"] and (_build_trial(header["kept"]), _below("kept/", tensors)),
    )


def _build_trial(content: dict[str, Any]) -> Trial:
    evidence = content["evidence"]
    return Trial(
        Setting(**content["setting"]),
        content["step"],
        Evidence(**evidence | {"class_accuracy": tuple(evidence["class_accuracy"])}),
    )


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
