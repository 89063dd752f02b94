"""The shares of the classes that a model was trained for and that it decides for, and how fine-tuning keeps them."""

from __future__ import annotations

import contextlib
import copy

import torch
from transformers import PreTrainedModel

from services.trainer.domain.evidence import predict_logits
from services.trainer.domain.last_layer import last_layer
from services.trainer.domain.pictures import Pictures

ROUNDS = 10
SMOOTHING = 0.1
_FIT_ITERATIONS = 100
_COMPARED_PICTURES = 256
_ROUNDINGS = 1000
"""How many roundings of the largest logit two passes of a net may lie apart; by half of a shift that matters they lie much further."""


def learned_shares(model: PreTrainedModel, validation: Pictures) -> torch.Tensor:
    """The shares of the classes (class,) in the training that `model` looks to come from; they sum to 1.

    Many trainings draw every class as often, whatever the data hold, and nothing in a model's files says so. But a calibrated model that saw
    shares π gives class k the probability π_k on average over pictures in these shares: π = πM, M_ck the mean probability of k on pictures of
    class c. The shares of `validation` are led through M `ROUNDS` times. That reaches the fixed point where the classes are hard to tell apart, so
    where the shares weigh; of a model that is nearly always right, which tells nothing of them, it leaves those of `validation`. A class without a picture
    there has no row in M and a share of 0, and the probabilities are those among the others: what M leads to it would never come back.

    Source: ours; Saerens, Latinne and Decaestecker 2002 find the shares of new data by a fixed point of the same kind.
    """
    counts = validation.labels.bincount(minlength=model.config.num_labels)
    there = torch.nonzero(counts).flatten()
    probabilities = predict_logits(model, validation.pixels)[:, there].softmax(dim=1)
    means = torch.stack([probabilities[validation.labels == index].mean(dim=0) for index in there])
    shares = counts[there] / len(validation)
    for _ in range(ROUNDS):
        shares = shares @ means
    return torch.zeros(len(counts)).index_copy(0, there, shares / shares.sum())


def weigh_classes(wanted: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Weights (class,) with which batches of `expected` pictures of each class count as if their shares were `wanted`; 0 where none is expected."""
    ratios = wanted * expected.sum() / expected.clamp_min(torch.finfo(expected.dtype).tiny)
    return torch.where(expected > 0, ratios, 0.0)


def count_decisions(model: PreTrainedModel, validation: Pictures) -> torch.Tensor:
    """The share of `validation` of which `model` says each class (class,)."""
    decided = predict_logits(model, validation.pixels).argmax(dim=1)
    return decided.bincount(minlength=model.config.num_labels) / len(validation)


def restore_decisions(model: PreTrainedModel, validation: Pictures, decisions: torch.Tensor) -> PreTrainedModel:
    """A copy of `model` whose last bias is moved so that it says each class of about that share of `validation` (`decisions`, by `count_decisions`).

    A class with few pictures is learned by heart sooner than another and then seldom seen elsewhere, whatever its weight in training; and where
    classes are hard to tell apart, all probabilities lie near the shares, and a little less than half is never a decision. The offsets o minimise
    mean max_k (logit_k + o_k) − Σ_k decisions_k · o_k, whose gradient is what the decisions lack, with the maximum smoothed over
    `SMOOTHING` of the logits' spread. With one number per class no shortcut can be learned from those pictures, and no label of theirs is used.

    A model is copied as it is when it has no last `nn.Linear` with a bias, when that bias does not move the logits as it should, or when there is nothing to
    fit: its logits are no numbers, as of a training that diverged, or all alike.

    Source: ours; the dual of semi-discrete optimal transport, entropy-regularised (Genevay et al. 2016).
    """
    balanced = copy.deepcopy(model)
    logits = predict_logits(balanced, validation.pixels).clone()  # out of inference mode
    width = SMOOTHING * (logits - logits.mean(dim=1, keepdim=True)).std()
    if not (width.isfinite() and width > torch.finfo(logits.dtype).tiny):
        return balanced
    offsets = torch.zeros(len(decisions), requires_grad=True)
    optimizer = torch.optim.LBFGS([offsets], max_iter=_FIT_ITERATIONS, line_search_fn="strong_wolfe")

    def lack() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (logits / width + offsets).logsumexp(dim=1).mean() - (decisions * offsets).sum()
        loss.backward()
        return loss

    optimizer.step(lack)
    with contextlib.suppress(ValueError), torch.no_grad():
        bias = last_layer(balanced).bias
        before, shift = bias.clone(), width * (offsets - offsets.mean())
        # Distilled DeiTs, LeViTs and SwiftFormers give the mean of two heads, of which the last is moved.
        for head_count in (1, 2):
            bias.copy_(before + head_count * shift.to(bias))
            if _are_moved(balanced, validation, logits, shift):
                return balanced
        bias.copy_(before)
    return balanced


def _are_moved(model: PreTrainedModel, validation: Pictures, before: torch.Tensor, shift: torch.Tensor) -> bool:
    """Whether `model` now gives the first of `validation` their logits `before` (n, class) and `shift` (class,), but for rounding."""
    some = slice(0, _COMPARED_PICTURES)
    moved = predict_logits(model, validation.pixels[some])
    wanted = before[some] + shift
    slack = _ROUNDINGS * torch.finfo(moved.dtype).eps * torch.maximum(before.abs().max(), wanted.abs().max())
    return bool(((moved - wanted).abs() <= slack).all())
