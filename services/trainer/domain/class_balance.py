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


def learned_shares(model: PreTrainedModel, validation: Pictures) -> torch.Tensor:
    """The shares of the classes (class,) in the training that `model` looks to come from; they sum to 1.

    Many trainings draw every class as often, whatever the data hold, and nothing in a model's files says so. But a calibrated model that saw
    shares π gives class k the probability π_k on average over pictures in these shares: π = πM, M_ck the mean probability of k on pictures of
    class c. The shares of `validation` are led through M `ROUNDS` times. That reaches the fixed point where the classes are hard to tell apart, so
    where the shares weigh; of a model that is nearly always right, which tells nothing of them, it leaves those of `validation`.

    Source: ours; Saerens, Latinne and Decaestecker 2002 find the shares of new data by a fixed point of the same kind.
    """
    classes = range(model.config.num_labels)
    probabilities = predict_logits(model, validation.pixels).softmax(dim=1)
    # A class without a picture keeps what it gets.
    means = torch.eye(len(classes))
    for index in classes:
        of_class = probabilities[validation.labels == index]
        if len(of_class):
            means[index] = of_class.mean(dim=0)
    shares = validation.labels.bincount(minlength=len(classes)) / len(validation)
    for _ in range(ROUNDS):
        shares = shares @ means
    return shares / shares.sum()


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
    `SMOOTHING` of the logits' spread. With one number per class no shortcut can be learned from those pictures, and no label of theirs is used. A model
    without a last `nn.Linear` with a bias is copied as it is.

    Source: ours; the dual of semi-discrete optimal transport, entropy-regularised (Genevay et al. 2016).
    """
    balanced = copy.deepcopy(model)
    logits = predict_logits(balanced, validation.pixels).clone()  # out of inference mode
    width = (SMOOTHING * (logits - logits.mean(dim=1, keepdim=True)).std()).clamp_min(torch.finfo(logits.dtype).tiny)
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
        bias.add_((width * (offsets - offsets.mean())).to(bias))
    return balanced
