"""What the load benchmarks explain: nets, pictures and methods, and the same work in this process.

A net's parameters are drawn, not trained, but for the small one's: what a pass costs does not depend on them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import captum.attr
import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, ResNetConfig

from benchmarks.decoy.data import load_splits
from benchmarks.decoy.shortcut_model import PREPROCESSING, choose_baselines, train_net
from services.common.vision.model_bundle import ModelBundle, build_untrained, load_bundle, save_bundle
from services.common.vision.nets import SmallCnnConfig
from services.explainer.domain.attribution import METHODS
from services.explainer.domain.attribution.base import Logits, attribute_logits

SMALL_CNN, RESNET18 = "small-cnn-28", "resnet18-224"
DEEP_LIFT_SHAP, INTEGRATED_GRADIENTS = "DEEP_LIFT_SHAP", "INTEGRATED_GRADIENTS"
RESNET_SIDE_PX = 224
CNN_EPOCHS = 5
MAP_TOLERANCE = 1e-3
"""Largest difference of two maps of the same picture, relative to the largest value: float32 sums in another order."""


@dataclass(frozen=True)
class Case:
    """A net under a method. `captum_agrees`: whether captum's map is the same one; it keeps one of overlapping max pooling windows, so that its
    DeepLIFT of a ResNet is another map, and an incomplete one."""

    net: str
    method: str
    captum_agrees: bool = True

    @property
    def name(self) -> str:
        return f"{self.net} {self.method}"


CASES = (
    Case(SMALL_CNN, DEEP_LIFT_SHAP),
    Case(SMALL_CNN, INTEGRATED_GRADIENTS),
    Case(RESNET18, DEEP_LIFT_SHAP, captum_agrees=False),
    Case(RESNET18, INTEGRATED_GRADIENTS),
)


def write_net(folder: Path, net: str, seed: int) -> str:
    """Write the bundle of `net` and return its digest.

    The small CNN (28×28 grey, 16 and 32 channels) learns the decoy digits for 5 epochs and is counted from 20 of them; ResNet-18 (He et al. 2016, 224×224 RGB,
    10 classes) is drawn and counted from the service's own three flat pictures.
    """
    provenance, card = {"made_by": "benchmarks.explainer.cases", "seed": seed}, f"# {net}\n\nMade to be measured.\n"
    if net == SMALL_CNN:
        digits = load_splits("digits").train
        pixels, labels = torch.from_numpy(digits.pictures.astype(np.float32) / 255)[:, None], digits.labels
        model = train_net(SmallCnnConfig, pixels, torch.from_numpy(labels), seed, CNN_EPOCHS)
        return save_bundle(folder, model, PREPROCESSING, choose_baselines(digits, seed), provenance, card)
    size = {"height": RESNET_SIDE_PX, "width": RESNET_SIDE_PX}
    return save_bundle(folder, _draw_resnet18(seed), PREPROCESSING | {"size": size}, None, provenance, card)


def draw_pictures(net: str, seed: int, count: int) -> list[bytes]:
    """PNG files at the size that `net` takes: decoy digits, or smooth noise, of which a file is as large as a photograph's."""
    if net == SMALL_CNN:
        digits = load_splits("digits").test.pictures
        return [_to_png(digits[index % len(digits)]) for index in range(seed * count, (seed + 1) * count)]
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
    size = (RESNET_SIDE_PX, RESNET_SIDE_PX)
    return [_to_png(np.asarray(Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC))) for cells in coarse]


class Work:
    """A bundle's pictures explained in this process: the logits, the predicted classes, and their maps (batch, height, width)."""

    def __init__(self, bundle: Path, method: str) -> None:
        self._bundle: ModelBundle = load_bundle(bundle)
        self._logits = Logits(self._bundle.model)
        self._method = method

    @property
    def labels(self) -> tuple[str, ...]:
        return self._bundle.labels

    def read(self, files: Sequence[bytes]) -> torch.Tensor:
        """(picture, channels, height, width) float32 as the net takes them."""
        pictures = (np.asarray(Image.open(io.BytesIO(file))) for file in files)
        return torch.from_numpy(np.stack([self._bundle.preprocessor(picture) for picture in pictures]))

    def explain_ours(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and maps by our method, as Triton's backend calls it."""
        logits = self.predict(pixel_values)
        method, targets = METHODS[self._method], logits.argmax(dim=1)
        return logits, attribute_logits(method, self._logits, pixel_values, targets, self._bundle.baselines).maps

    def explain_captum(
        self, pixel_values: torch.Tensor, rows_in_flight: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and maps by captum's method of the same definition; `rows_in_flight` bounds a pass of integrated gradients."""
        logits = self.predict(pixel_values)
        targets, baselines = logits.argmax(dim=1), self._bundle.baselines
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it sets hooks
            if self._method == DEEP_LIFT_SHAP:
                found = captum.attr.DeepLiftShap(self._logits).attribute(pixel_values, baselines, targets)
            else:
                found = captum.attr.IntegratedGradients(self._logits).attribute(
                    pixel_values,
                    baselines.mean(dim=0, keepdim=True),
                    targets,
                    n_steps=METHODS[self._method].parameters["steps"],
                    method="riemann_middle",
                    internal_batch_size=rows_in_flight,
                )
        return logits, found.detach().sum(dim=1)

    def predict(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes)."""
        with torch.inference_mode():
            return self._logits(pixel_values)


Explain = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""One of the ways of `Work`."""


def map_difference(maps: np.ndarray, others: np.ndarray) -> float:
    """Largest difference relative to the largest value of `maps`."""
    return float(np.abs(maps - others).max() / np.abs(maps).max())


def check_same_maps(maps: np.ndarray, others: np.ndarray, whose: str) -> None:
    """Raise `RuntimeError` when `others` are not `maps`: times of different work are not compared."""
    difference = map_difference(maps, others)
    if not difference <= MAP_TOLERANCE:
        raise RuntimeError(f"{whose}: maps differ by {difference:.2g} of the largest value; at most {MAP_TOLERANCE:g}")


def _draw_resnet18(seed: int) -> PreTrainedModel:
    config = ResNetConfig(
        layer_type="basic", hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], embedding_size=64, num_labels=10
    )
    return build_untrained(config, seed)


def _to_png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
