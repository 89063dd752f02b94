"""Train `nano` from scratch, or from an earlier `nano`, on a GPU where there is one, else on the CPU.

Run: python -m services.lvlm.nano.train --shards DIR --work DIR --out DIR --minutes N [--scale N --workers N] [--start DIR [--cool-down]] [--resume]

Stage 1 teaches the vision tower what covers each cell; stage 2 adds language and keeps helpers: the dense heads, a head that reads
what a specification says of each thing, and one that says how much of a segment each thing has.
The schedule follows the clock: warm-up, plateau, decay over the last third of each stage. A run that was cut off before its decay is
brought to its end from its weights alone with `--cool-down`: answers only, at a rate that falls all the time. `--shards` holds drawn scenes, `--work` the
state to resume from and the log; `--out` receives the averaged weights as a `transformers` folder.
"""

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import AutoTokenizer, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from services.lvlm.nano import answers, batches, building, losses, regions
from services.lvlm.nano.stream import DrawnStream, StepBatch, StepSize, open_stream
from services.lvlm.nano.worlds import WORLDS

EYES_RATIO = (
    0.3  # share of the time given to stage 1: to look takes a quarter of the time that to look and answer takes
)
STEP_SIZES = {
    "eyes": StepSize(looked_at=48),
    "all": StepSize(looked_at=48, asked_about=30, searched=12, text_only=24),
}
PEAK_RATE = 1.5e-3  # for steps of any size: with Adam a larger step is a surer one, and was not tried faster
COOL_DOWN_RATE = 3e-4  # where a cool-down begins: steps on two cores are small and their gradients rough
WARM_UP_RATIO = 0.02
DECAY_RATIO = 0.34
FINAL_RATE_RATIO = 0.02
AVERAGE_DECAY = 0.99  # over the last hundred steps: a longer memory would still hold the untrained words
HELPER_WEIGHTS = {"dense": 0.5, "reading": 1.0, "shares": 0.5}  # in stage 2; the answers count in full
TOKENIZER_TEXT_COUNT = 20000
TOKENIZER_COORDINATE_COUNT = 500  # often enough that each coordinate becomes one word
LOG_STEPS = 20


@dataclass(frozen=True)
class Stage:
    """A part of a run: what its steps hold, what its helpers weigh beside the answers, and how its rate moves."""

    number: int
    begin_s: float
    end_s: float
    size: StepSize
    helper_weights: Mapping[str, float]
    peak_rate: float = PEAK_RATE
    decay_ratio: float = DECAY_RATIO

    def rate_at(self, elapsed_s: float) -> float:
        """Warm-up, plateau, and a straight fall to a small rest."""
        progress = (elapsed_s - self.begin_s) / (self.end_s - self.begin_s)
        warm = min(1.0, progress / WARM_UP_RATIO + 0.01)
        fall = min(1.0, max(0.0, (1 - progress) / self.decay_ratio))
        return self.peak_rate * warm * max(FINAL_RATE_RATIO, fall)


@dataclass
class Run:
    """All that a resumed run needs."""

    model: LlavaForConditionalGeneration
    helpers: losses.Helpers
    average: LlavaForConditionalGeneration
    optimizer: torch.optim.Optimizer
    elapsed_s: float = 0.0
    step: int = 0
    recent: dict[str, list[torch.Tensor]] = field(default_factory=dict)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", choices=tuple(WORLDS), default=tuple(WORLDS))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--scale", type=int, default=1, help="steps of so many times the size that two cores can take")
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of an earlier nano to go on from")
    parser.add_argument("--cool-down", action="store_true", help="end a run that began in `--start`")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    if arguments.cool_down and not arguments.start:
        parser.error("--cool-down: expected --start, the folder of the nano that it brings to its end")
    torch.set_num_threads(2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = _open_tokenizer(arguments.work / "tokenizer", arguments.worlds, arguments.seed)
    run = _open_run(tokenizer, arguments.seed, arguments.start, device)
    if arguments.resume and (arguments.work / "state.pt").exists():
        _load(run, arguments.work / "state.pt", device)
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


def _open_run(tokenizer: PreTrainedTokenizerFast, seed: int, start: Path | None, device: torch.device) -> Run:
    model = building.build_model(tokenizer, seed)
    if start:
        building.carry_over(model, tokenizer, start)
    model.to(device)
    helpers = losses.Helpers(model.config.vision_config.hidden_size, model.config.text_config.hidden_size).to(device)
    parameters = [*model.parameters(), *helpers.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=device.type == "cuda")
    return Run(model, helpers, copy.deepcopy(model).requires_grad_(False), optimizer)


def _plan(arguments: argparse.Namespace) -> tuple[Stage, ...]:
    total_s = arguments.minutes * 60
    eyes, both = (STEP_SIZES[name].times(arguments.scale) for name in ("eyes", "all"))
    if arguments.cool_down:
        without_helpers = dict.fromkeys(HELPER_WEIGHTS, 0.0)
        return (Stage(2, 0.0, total_s, both, without_helpers, COOL_DOWN_RATE, decay_ratio=1.0),)
    eyes_end_s = EYES_RATIO * total_s
    return Stage(1, 0.0, eyes_end_s, eyes, {}), Stage(2, eyes_end_s, total_s, both, HELPER_WEIGHTS)


def _train(run: Run, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace) -> None:
    saved_s = run.elapsed_s
    for stage in _plan(arguments):
        stream = None
        while run.elapsed_s < stage.end_s:
            started = time.monotonic()
            if stream is None:
                seed = arguments.seed * 1_000_003 + run.step
                drawn = DrawnStream(arguments.shards, arguments.worlds, tokenizer, stage.size, seed)
                stream = open_stream(drawn, arguments.workers, is_pinned=run.model.device.type == "cuda")
            rate = stage.rate_at(run.elapsed_s)
            _step(run, next(stream), stage.helper_weights, rate)
            run.elapsed_s += time.monotonic() - started
            run.step += 1
            if run.step % LOG_STEPS == 0:
                _log(run, arguments.work / "log.jsonl", stage.number, rate)
            if run.elapsed_s - saved_s > arguments.save_minutes * 60:
                saved_s = run.elapsed_s
                _save(run, tokenizer, arguments)


def _step(run: Run, batch: StepBatch, helper_weights: Mapping[str, float], rate: float) -> None:
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    batch = batch.to(run.model.device)
    parts: dict[str, torch.Tensor] = {}
    with torch.autocast(run.model.device.type, torch.bfloat16):
        cells = losses.look(run.model, batch.panels)
        parts["dense"] = run.helpers.dense(cells, batch.targets)
        if batch.questions is not None:
            parts |= losses.answer_losses(run.model, run.helpers, cells, batch)
    loss = sum(part * helper_weights.get(name, 1.0) for name, part in parts.items())
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in run.optimizer.param_groups for p in g["params"]], 1.0)
    run.optimizer.step()
    decay = min(AVERAGE_DECAY, (run.step + 1) / (run.step + 10))
    with torch.no_grad():
        get_ema_multi_avg_fn(decay)(list(run.average.parameters()), list(run.model.parameters()), None)
    for name, part in parts.items():
        run.recent.setdefault(name, []).append(part.detach())


def _log(run: Run, path: Path, stage: int, rate: float) -> None:
    means = {f"{name}_loss": round(float(torch.stack(values).mean()), 4) for name, values in run.recent.items()}
    entry = {"step": run.step, "elapsed_s": round(run.elapsed_s, 1), "stage": stage, "rate": rate}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry | means) + "\n")
    run.recent.clear()


def _save(run: Run, tokenizer: PreTrainedTokenizerFast, arguments: argparse.Namespace) -> None:
    state = {
        "model": run.model.state_dict(),
        "helpers": run.helpers.state_dict(),
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
    copy.deepcopy(model).to("cpu", torch.bfloat16).save_pretrained(folder)
    building.build_processor(tokenizer).save_pretrained(folder)


def _load(run: Run, path: Path, device: torch.device) -> None:
    state = torch.load(path, weights_only=True, map_location=device)
    run.model.load_state_dict(state["model"])
    run.helpers.load_state_dict(state["helpers"])
    run.average.load_state_dict(state["average"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.elapsed_s, run.step = state["elapsed_s"], state["step"]


if __name__ == "__main__":
    main()
