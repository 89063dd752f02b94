"""What others would do against a shortcut: weight decay alone, JTT, DFR and SUBG, each on the plain model and in the steps of the aligned one.

None sees masks or sentences. L2 sees what the trainer sees. The other three are given group labels, which the method does without: JTT
to choose by, DFR and SUBG to train on as well. Training and validation pictures may hold no minority group at all, so those labels come with
pictures of their own, `group_labelled`: held out from training, every artefact beside every class. What is counted and balanced is the pair of label
and group, so groups that only name the class or only the artefact do as well; where they only name the class, artefacts must be independent of it.
No baseline sees a test picture.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from operator import itemgetter

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import PreTrainedModel

from benchmarks.alignment.problem import LabelledPictures, Problem
from services.trainer.domain.alignment import PROBE_RATIO
from services.trainer.domain.class_balance import learned_shares, weigh_classes
from services.trainer.domain.correction import features_before
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import predict
from services.trainer.domain.fine_tuning import SNAPSHOT_COUNT, Recipe, Snapshot
from services.trainer.domain.last_layer import last_layer
from services.trainer.domain.pictures import Pictures

BATCH_SIZE = 256
L2_DECAYS = (100.0, 10.0, 1.0, 0.1)
SUBG_DECAYS = (0.0, 1.0)
IDENTIFICATION_RATIOS = (1 / 50, 1 / 5)
"""Part of the steps after which JTT's identification model stops. The paper's choices lie from 1/50 (CelebA) to 2/5 (MultiNLI)."""
UPWEIGHTS = (20, 50, 100)
INVERSE_PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""scikit-learn's C for DFR: the range of the paper's code and a decade more, for sets smaller than theirs."""
SUBSAMPLE_COUNT = 20
MOST_FITTED = 2000
"""Pictures in one of DFR's subsamples at most, for time; those of the paper's Waterbirds and CelebA hold less than 1,000."""


def l2_only(plain: PreTrainedModel, problem: Problem, step_count: int, seed: int) -> PreTrainedModel:
    """Fine-tuned on the training pictures with weight decay alone, the strongest of `L2_DECAYS` that validation bears.

    That is, the strongest that costs no more than `Criteria.max_accuracy_drop` of the plain model's accuracy on validation pictures, or else the weakest: the
    best accuracy on data that rewards the shortcut would ask for none. Decay is decoupled (AdamW). Classes count in the shares that the plain model was trained
    for, as in the trainer's fine-tuning.
    """
    train, validation = _as_pictures(problem, problem.train), _as_pictures(problem, problem.validation)
    counts = train.labels.bincount(minlength=len(problem.labels))
    class_weights = weigh_classes(learned_shares(plain, validation), counts.float())
    floor = _accuracy(plain, validation) - Criteria().max_accuracy_drop
    for decay in L2_DECAYS:
        *_, last = _descend(plain, train, np.arange(len(train)), step_count, seed, decay, class_weights)
        if _accuracy(last.model, validation) >= floor:
            break
    return last.model


def just_train_twice(
    plain: PreTrainedModel, problem: Problem, group_labelled: LabelledPictures, step_count: int, seed: int
) -> PreTrainedModel:
    """JTT: fine-tuned with the training pictures upweighted that an early-stopped model gets wrong.

    Trains without group labels; the early stop and the weight, by trials of `PROBE_RATIO` of the steps, and the snapshot are those with the best
    worst-group accuracy on `group_labelled`, as the paper chooses. Where the artefact never lies in training, the errors are not of a minority
    but hard pictures of the majority, or none: nothing is done about it, for that is what the method does.

    Source: Liu et al. 2021, "Just Train Twice". Differs: the second training goes on from the plain model, not from scratch, as all that it is compared with;
    the identification model has random weights, also where the plain model once was pretrained.
    """
    train, chosen_on = _as_pictures(problem, problem.train), _as_pictures(problem, group_labelled)

    def score(model: PreTrainedModel) -> tuple[float, float]:
        return _score(predict(model, chosen_on.pixels), group_labelled)

    trials = []
    for ratio in IDENTIFICATION_RATIOS:
        stop = max(1, round(ratio * step_count))
        *_, identified = _descend(_initialise(plain, seed), train, np.arange(len(train)), stop, seed)
        errors = error_set(identified.model, train)
        for upweight in UPWEIGHTS:
            rows = upweighted_rows(len(train), errors, upweight)
            *_, last = _descend(plain, train, rows, max(1, round(PROBE_RATIO * step_count)), seed)
            trials.append((score(last.model), rows))
    _, rows = max(trials, key=itemgetter(0))
    finished = [
        (score(snapshot.model), copy.deepcopy(snapshot.model))
        for snapshot in _descend(plain, train, rows, step_count, seed)
    ]
    return max(finished, key=itemgetter(0))[1]


def error_set(model: PreTrainedModel, pictures: Pictures) -> np.ndarray:
    """Rows (m,) of the pictures whose label `model` does not predict."""
    return torch.nonzero(predict(model, pictures.pixels) != pictures.labels).flatten().numpy()


def upweighted_rows(count: int, errors: np.ndarray, upweight: int) -> np.ndarray:
    """Every one of `count` rows once, those of `errors` (m,) `upweight` times."""
    return np.concatenate((np.arange(count), np.repeat(errors, upweight - 1)))


def subsample_groups(
    plain: PreTrainedModel, problem: Problem, group_labelled: LabelledPictures, step_count: int, seed: int
) -> PreTrainedModel:
    """SUBG: fine-tuned from the plain weights on `group_labelled` alone, as many pictures of every group as the smallest has.

    Weight decay and step are those with the best worst-group accuracy on one half after training on the other; then all are trained on.

    Source: Idrissi et al. 2022, "Simple data balancing achieves competitive worst-group-accuracy". Differs: the balanced subsample is of pictures given for it,
    not of the training pictures, which may lack groups; fine-tunes the plain model; no second group-labelled set to choose on.

    Raises: ValueError when a group has fewer than two pictures.
    """
    rng = np.random.default_rng(seed)
    pictures = _as_pictures(problem, group_labelled)
    fitted, chosen_on = _halves(group_labelled, rng)
    rows, truth = fitted[balanced_rows(group_labelled.take(fitted), rng)], group_labelled.take(chosen_on)
    trials = [
        (_score(predict(snapshot.model, pictures.pixels[chosen_on]), truth), decay, snapshot.step)
        for decay in SUBG_DECAYS
        for snapshot in _descend(plain, pictures, rows, step_count, seed, decay)
    ]
    _, decay, step = max(trials, key=itemgetter(0))
    snapshots = _descend(plain, pictures, balanced_rows(group_labelled, rng), step_count, seed, decay)
    return next(snapshot.model for snapshot in snapshots if snapshot.step == step)


def deep_feature_reweighting(
    plain: PreTrainedModel, problem: Problem, group_labelled: LabelledPictures, seed: int
) -> PreTrainedModel:
    """DFR: the last layer anew, by L1 logistic regression on the features of `group_labelled`, averaged over balanced subsamples.

    Features are standardised by those of the training pictures. C is the one with the best worst-group accuracy on one half after
    fitting a balanced subsample of the other; the 20 layers that are averaged are of balanced subsamples of all. No other weight moves.

    Source: Kirichenko et al. 2023, "Last layer re-training is sufficient for robustness to spurious correlations", and its code. Differs: more than
    two classes are fitted one against the rest, each by their solver; a subsample holds `MOST_FITTED` pictures at most.

    Raises: ValueError when a group has fewer than two pictures, a class none, or the logits do not come from an `nn.Linear` with a bias.
    """
    if len(np.unique(group_labelled.labels)) < len(problem.labels):
        raise ValueError("group_labelled: expected pictures of every class")
    rng = np.random.default_rng(seed)
    model = copy.deepcopy(plain).eval()
    layer = last_layer(model)
    scaler = StandardScaler().fit(features_before(model, layer, problem.to_pixels(problem.train.pictures)).numpy())
    features = scaler.transform(features_before(model, layer, problem.to_pixels(group_labelled.pictures)).numpy())
    fitted, chosen_on = _halves(group_labelled, rng)
    rows, truth = fitted[balanced_rows(group_labelled.take(fitted), rng, MOST_FITTED)], group_labelled.take(chosen_on)

    def score(inverse_penalty: float) -> tuple[float, float]:
        weight, bias = _fit_layer(features[rows], group_labelled.labels[rows], inverse_penalty, seed)
        return _score(torch.from_numpy((features[chosen_on] @ weight.T + bias).argmax(axis=1)), truth)

    inverse_penalty = max(INVERSE_PENALTIES, key=score)
    subsamples = [balanced_rows(group_labelled, rng, MOST_FITTED) for _ in range(SUBSAMPLE_COUNT)]
    fits = [_fit_layer(features[drawn], group_labelled.labels[drawn], inverse_penalty, seed) for drawn in subsamples]
    weight, bias = (np.mean(parts, axis=0) for parts in zip(*fits, strict=True))
    weight = weight / scaler.scale_
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias - weight @ scaler.mean_))
    return model


def balanced_rows(labelled: LabelledPictures, rng: np.random.Generator, most: int | None = None) -> np.ndarray:
    """Rows (m,) drawn without replacement, as many of every pair of label and group as the rarest has; about `most` in all, or fewer."""
    cells = _cells(labelled)
    count = min(map(len, cells))
    if most is not None:
        count = min(count, max(1, most // len(cells)))
    return np.concatenate([rng.choice(cell, count, replace=False) for cell in cells])


def _halves(labelled: LabelledPictures, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two halves, each with half of every pair of label and group."""
    cells = [rng.permutation(cell) for cell in _cells(labelled)]
    if min(map(len, cells)) < 2:
        raise ValueError("group_labelled: expected two pictures or more of every group")
    return tuple(np.concatenate([cell[half::2] for cell in cells]) for half in range(2))


def _cells(labelled: LabelledPictures) -> list[np.ndarray]:
    """Rows of every pair of label and group that occurs."""
    _, cell = np.unique(np.stack((labelled.labels, labelled.groups)), axis=1, return_inverse=True)
    return [np.flatnonzero(cell == index) for index in range(cell.max() + 1)]


def _score(predicted: torch.Tensor, labelled: LabelledPictures) -> tuple[float, float]:
    """Accuracy in the worst pair of label and group, then, for where pairs are small and many fail, its mean over pairs."""
    is_right = predicted.numpy() == labelled.labels
    ratios = [float(is_right[cell].mean()) for cell in _cells(labelled)]
    return min(ratios), sum(ratios) / len(ratios)


def _fit_layer(
    features: np.ndarray, labels: np.ndarray, inverse_penalty: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (class, feature) and bias (class,), each class against the rest."""
    rest = [
        LogisticRegression(C=inverse_penalty, l1_ratio=1, solver="liblinear", random_state=seed).fit(
            features, labels == label
        )
        for label in np.unique(labels)
    ]
    return np.concatenate([fit.coef_ for fit in rest]), np.concatenate([fit.intercept_ for fit in rest])


def _initialise(like: PreTrainedModel, seed: int) -> PreTrainedModel:
    """The same net with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return type(like)(copy.deepcopy(like.config))


def _descend(
    start: PreTrainedModel,
    pictures: Pictures,
    rows: np.ndarray,
    step_count: int,
    seed: int,
    weight_decay: float = 0.0,
    class_weights: torch.Tensor | None = None,
) -> Iterator[Snapshot]:
    """Cross-entropy on batches drawn from `rows`, as the trainer's fine-tuning descends; ten snapshots of the live model.

    A row that comes k times weighs k times as much.
    """
    model = copy.deepcopy(start).eval()
    optimizer = torch.optim.AdamW(model.parameters(), Recipe().learning_rates[0], weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, step_count)
    generator = torch.Generator().manual_seed(seed)
    drawn_from = torch.from_numpy(rows)
    kept = {round(step_count * (index + 1) / SNAPSHOT_COUNT) for index in range(SNAPSHOT_COUNT)}
    for step in range(1, step_count + 1):
        batch = pictures.take(drawn_from[torch.randint(len(drawn_from), (BATCH_SIZE,), generator=generator)])
        loss = nn.functional.cross_entropy(model(pixel_values=batch.pixels).logits, batch.labels, class_weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step in kept:
            yield Snapshot(step, float(loss.detach()), model)


def _as_pictures(problem: Problem, labelled: LabelledPictures) -> Pictures:
    return Pictures(problem.to_pixels(labelled.pictures), torch.from_numpy(labelled.labels))


def _accuracy(model: PreTrainedModel, pictures: Pictures) -> float:
    return float((predict(model, pictures.pixels) == pictures.labels).double().mean())
