"""Train `nano` from scratch, or from an earlier `nano`, on a CPU.

Run: python -m services.lvlm.nano.train --shards DIR --work DIR --out DIR --minutes N [--worlds NAME ...] [--start DIR] [--resume]

Stage 1 teaches the vision tower what covers each cell; stage 2 adds language and keeps two helpers: the dense
heads, and a head that reads what a specification says of each thing.
The schedule follows the clock: warm-up, plateau, decay over the last third of each stage. `--shards` holds drawn scenes, `--work` the
state to resume from and the log; `--out` receives the averaged weights as a `transformers` folder.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from services.lvlm.nano import answers, batches, building, losses, regions
from services.lvlm.nano.stream import DrawnStream, StepBatch, StepSize, open_stream
from services.lvlm.nano.worlds import WORLDS

EYES_RATIO = (
    0.3  # share of the time given to stage 1: to look takes a quarter of the time that to look and answer takes
)
STEP_SIZES = {
    "eyes": StepSize(looked_at=48),
    "all": StepSize(looked_at=48, asked_about=30, searched=12, text_only=48),
}
PEAK_RATE = 1.5e-3
WARM_UP_RATIO = 0.02
DECAY_RATIO = 0.34
FINAL_RATE_RATIO = 0.02
AVERAGE_DECAY = 0.99  # over the last hundred steps: a longer memory would still hold the untrained words
HELPER_WEIGHTS = {"dense": 0.5, "reading": 0.5}  # in stage 2; the answers count in full
TOKENIZER_TEXT_COUNT = 20000
TOKENIZER_COORDINATE_COUNT = 500  # often enough that each coordinate becomes one word
LOG_STEPS = 20


@dataclass
class Run:
    """All that a resumed run needs."""

    model: LlavaForConditionalGeneration
    heads: losses.DenseHeads
    reading: losses.ReadingHead
    average: LlavaForConditionalGeneration
    optimizer: torch.optim.Optimizer
    elapsed_s: float = 0.0
    step: int = 0
    recent: dict[str, list[float]] = field(default_factory=dict)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", choices=tuple(WORLDS), default=tuple(WORLDS))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of an earlier nano to go on from")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = _open_tokenizer(arguments.work / "tokenizer", arguments.worlds, arguments.seed)
    run = _open_run(tokenizer, arguments.seed, arguments.start)
    if arguments.resume and (arguments.work / "state.pt").exists():
        _load(run, arguments.work / "state.pt")
    _train(run, tokenizer, arguments)
    _save(run, tokenizer, arguments)


def _open_tokenizer(folder: Path, worlds: Sequence[str], seed: int) -> PreTrainedTokenizerFast:
    if not folder.exists():
        rng = np.random.default_rng(seed)
        questions = (batches.draw_text_question(rng, worlds) for _ in range(TOKENIZER_TEXT_COUNT))
        texts = [question.prompt + "\n" + question.answer for question in questions]
        coordinates = answers.ground([(step,) * 4 for step in range(0, 1001, regions.STEP)])
        building.train_tokenizer([*texts, *[coordinates] * TOKENIZER_COORDINATE_COUNT]).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _open_run(tokenizer: PreTrainedTokenizerFast, seed: int, start: Path | None) -> Run:
    model = building.build_model(tokenizer, seed)
    if start:
        building.carry_over(model, tokenizer, start)
    heads = losses.DenseHeads(model.config.vision_config.hidden_size)
    reading = losses.ReadingHead(model.config.text_config.hidden_size)
    parameters = [*model.parameters(), *heads.parameters(), *reading.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98))
    return Run(model, heads, reading, copy.deepcopy(model).requires_grad_(False), optimizer)


def _train(run: Run, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace) -> None:
    total_s = arguments.minutes * 60
    saved_s = run.elapsed_s
    for is_eyes, begin_s, end_s in ((True, 0.0, EYES_RATIO * total_s), (False, EYES_RATIO * total_s, total_s)):
        stream = None
        while run.elapsed_s < end_s:
            started = time.monotonic()
            if stream is None:
                stream = _open_stage(run, tokenizer, arguments, is_eyes)
            rate = PEAK_RATE * _rate_ratio((run.elapsed_s - begin_s) / (end_s - begin_s))
            _step(run, next(stream), is_eyes, rate)
            run.elapsed_s += time.monotonic() - started
            run.step += 1
            if run.step % LOG_STEPS == 0:
                _log(run, arguments.work / "log.jsonl", is_eyes, rate)
            if run.elapsed_s - saved_s > arguments.save_minutes * 60:
                saved_s = run.elapsed_s
                _save(run, tokenizer, arguments)


def _open_stage(
    run: Run, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace, is_eyes: bool
) -> Iterator[StepBatch]:
    size = STEP_SIZES["eyes" if is_eyes else "all"]
    seed = arguments.seed * 1_000_003 + run.step
    return open_stream(DrawnStream(arguments.shards, arguments.worlds, tokenizer, size, seed))


def _rate_ratio(progress: float) -> float:
    warm = min(1.0, progress / WARM_UP_RATIO + 0.01)
    fall = min(1.0, max(0.0, (1 - progress) / DECAY_RATIO))
    return warm * max(FINAL_RATE_RATIO, fall)


def _step(run: Run, batch: StepBatch, is_eyes: bool, rate: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    parts: dict[str, torch.Tensor] = {}
    with torch.autocast("cpu", torch.bfloat16):
        cells = losses.look(run.model, batch.panels)
        parts["dense"] = run.heads(cells, batch.targets)
        if not is_eyes:
            asked, searched = len(batch.picture.ids), len(batch.regions.ids)
            parts["picture"], picture_reading = losses.picture_loss(
                run.model, run.reading, cells[:asked], batch.picture
            )
            parts["regions"], _ = losses.picture_loss(
                run.model, run.reading, cells[asked : asked + searched, :1], batch.regions
            )
            parts["text"], text_reading = losses.text_loss(run.model, run.reading, batch.text)
            parts["reading"] = picture_reading + text_reading
    weights = {} if is_eyes else HELPER_WEIGHTS
    loss = sum(part * weights.get(name, 1.0) for name, part in parts.items())
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in run.optimizer.param_groups for p in g["params"]], 1.0)
    run.optimizer.step()
    decay = min(AVERAGE_DECAY, (run.step + 1) / (run.step + 10))
    with torch.no_grad():
        for slow, fast in zip(run.average.parameters(), run.model.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
    for name, part in parts.items():
        run.recent.setdefault(name, []).append(float(part.detach()))


def _log(run: Run, path: Path, is_eyes: bool, rate: float) -> None:
    means = {f"{name}_loss": round(sum(values) / len(values), 4) for name, values in run.recent.items()}
    entry = {"step": run.step, "elapsed_s": round(run.elapsed_s, 1), "stage": 1 if is_eyes else 2, "rate": rate}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry | means) + "\n")
    run.recent.clear()


def _save(run: Run, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace) -> None:
    state = {
        "model": run.model.state_dict(),
        "heads": run.heads.state_dict(),
        "reading": run.reading.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "elapsed_s": run.elapsed_s,
        "step": run.step,
    }
    partial = arguments.work / "state.partial.pt"
    torch.save(state, partial)
    partial.replace(arguments.work / "state.pt")
    export(run.average, tokenizer, arguments.out)


def export(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a `transformers` folder with bfloat16 weights."""
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    building.build_processor(tokenizer).save_pretrained(folder)


def _load(run: Run, path: Path) -> None:
    state = torch.load(path, weights_only=True)
    run.model.load_state_dict(state["model"])
    run.heads.load_state_dict(state["heads"])
    run.reading.load_state_dict(state["reading"])
    run.average.load_state_dict(state["average"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.elapsed_s, run.step = state["elapsed_s"], state["step"]


if __name__ == "__main__":
    main()
