"""What an imported model must hold to: the logits of `transformers`, and maps that depend on its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from services.common.runtime.errors import InvalidInput, Unsupported
from services.common.vision.golden import GoldenRequest
from services.common.vision.model_bundle import PREPROCESSING, ModelBundle, build_untrained, read_json
from services.common.vision.preprocessing import Preprocessor
from services.common.vision.processor_steps import build_processor
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS
from services.explainer.domain.randomisation import MAX_RANK_CORRELATION, correlate_with_randomised
from services.explainer.handlers.verifying import GOLDEN_TOLERANCE, answer, check_golden

_SEED = 181003292
"""One that nobody's own parameters were drawn with: an untrained net would come back as it is."""
_BASELINE_COUNT = 4
"""Baselines that the maps held against each other are counted from: with all of them a ResNet-50 takes minutes."""


@dataclass(frozen=True)
class GoldenCheck:
    """Our logits against those of `transformers`: the largest difference, relative to the largest logit (to 1 when all are smaller)."""

    picture_count: int
    largest_difference: float
    tolerance: float = GOLDEN_TOLERANCE


@dataclass(frozen=True)
class RandomisationCheck:
    """Maps of the model against those of random parameters: their mean |rank correlation|."""

    picture_count: int
    rank_correlation: float
    bound: float = MAX_RANK_CORRELATION
    method: str = DEFAULT_METHOD


def make_golden(bundle: ModelBundle, folder: Path, pictures: Sequence[np.ndarray]) -> tuple[GoldenRequest, GoldenCheck]:
    """The golden request of decoded `pictures`, ours held against it. A preprocessing that names no processor of `transformers` is ours.

    Raises
    ------
    InvalidInput
        When the model or its processor does not take the pictures.
    WrongState
        When our logits differ by more than `GOLDEN_TOLERANCE`.
    """
    pixels = torch.from_numpy(np.stack([bundle.preprocessor(picture) for picture in pictures]))
    processor = build_processor(read_json(folder / PREPROCESSING))
    theirs = pixels
    if processor is not None:
        mode = "L" if bundle.preprocessor.channels == 1 else "RGB"
        images = [Image.fromarray(picture).convert(mode) for picture in pictures]
        try:
            theirs = torch.cat([processor(image, return_tensors="pt")["pixel_values"] for image in images]).float()
        except Exception as error:
            # Each processor has its own way of not taking a picture.
            raise InvalidInput(
                "bundle", f"{PREPROCESSING}: the processor does not take the pictures: {error}"
            ) from error
    golden = GoldenRequest(tuple(pictures), answer(bundle, theirs))
    difference = check_golden(answer(bundle, pixels), golden, f"after our reading of {PREPROCESSING}")
    return golden, GoldenCheck(len(pictures), difference)


def check_randomisation(bundle: ModelBundle, pictures: Sequence[np.ndarray]) -> RandomisationCheck:
    """Hold the maps of decoded `pictures` by the default method against those of the same architecture with random parameters.

    Raises
    ------
    InvalidInput
        When they stay alike.
    Unsupported
        When the method does not run on the architecture.
    """
    pixels = torch.from_numpy(np.stack([bundle.preprocessor(picture) for picture in pictures]))
    randomised = build_untrained(bundle.model.config, _SEED)
    try:
        correlation = correlate_with_randomised(
            METHODS[DEFAULT_METHOD], bundle.model, randomised, pixels, bundle.baselines[:_BASELINE_COUNT]
        )
    except Exception as error:
        # Any architecture may meet the method here, and torch has many ways of not getting along with one.
        architecture = type(bundle.model).__name__
        raise Unsupported(
            f"{DEFAULT_METHOD} does not run on {architecture}: {type(error).__name__}: {error}"
        ) from error
    if correlation > MAX_RANK_CORRELATION:
        raise InvalidInput(
            "bundle",
            f"parameter randomisation: maps of the model and of one with random parameters have a rank correlation of {correlation:.2f}, at most "
            f"{MAX_RANK_CORRELATION} is taken: they do not show what the model has learned",
        )
    return RandomisationCheck(len(pictures), correlation)


def draw_baselines(preprocessor: Preprocessor, baselines: torch.Tensor) -> list[np.ndarray]:
    """Preprocessed `baselines` (count, channels, height, width) as the pictures, uint8, that they come from, at the model's size."""
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (preprocessor.mean, preprocessor.std))
    values = ((baselines * std + mean) / preprocessor.rescale_factor).round().clamp(0, 255).to(torch.uint8)
    pictures = values.permute(0, 2, 3, 1).numpy()
    return list(pictures[..., 0] if preprocessor.channels == 1 else pictures)
