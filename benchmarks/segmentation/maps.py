"""Attribution maps to segment: DeepLIFT SHAP of small nets, trained for seconds, on real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedModel, ResNetConfig

from benchmarks.decoy.data import load_splits
from benchmarks.decoy.shortcut_model import choose_baselines, to_pixels, train_shortcut_model
from benchmarks.provenance import ROOT
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS, attribute

FILMS = ROOT.parent / "shared" / "data" / "chest_xray" / "train"
FILM_LABELS = ("NORMAL", "PNEUMONIA")
FILM_EPOCHS = 3
FILM_BASELINES = 2
DIGIT_EPOCHS = 100
_ELEMENTS_IN_FLIGHT = 2**20


def make_film_maps(count: int, seed: int) -> tuple[np.ndarray, float]:
    """Maps (count, 224, 224) float32 of a small ResNet's own decisions on `count` chest films, which trained it; its accuracy on them."""
    rng = np.random.default_rng(seed)
    files = [(file, label) for label, name in enumerate(FILM_LABELS) for file in sorted((FILMS / name).iterdir())]
    chosen = [files[row] for row in rng.choice(len(files), count, replace=False)]
    pixels = torch.from_numpy(np.stack([_read_film(file) for file, _ in chosen]))[:, None]
    labels = torch.tensor([label for _, label in chosen])
    model = _train_resnet(pixels, labels, seed)
    baselines = pixels[rng.choice(count, FILM_BASELINES, replace=False)]
    maps, decided = _explain(model, pixels, baselines)
    return maps, float((decided == labels).float().mean())


def make_digit_maps(count: int, seed: int) -> np.ndarray:
    """Maps (count, 28, 28) float32 of an MLP's decisions on scikit-learn's digits with decoys."""
    train = load_splits("digits", seed=seed).train
    model = train_shortcut_model(train, seed, DIGIT_EPOCHS)
    rows = np.arange(count) % len(train.labels)
    return _explain(model, to_pixels(train.pictures[rows]), choose_baselines(train, seed))[0]


def _read_film(file: Path) -> np.ndarray:
    return (np.asarray(Image.open(file).convert("L"), dtype=np.float32) / 255 - 0.5) / 0.25


def _train_resnet(pixels: torch.Tensor, labels: torch.Tensor, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 16, 32], depths=[1, 1, 1], layer_type="basic", num_labels=2
    )
    model = AutoModelForImageClassification.from_config(config).train()
    optimizer = torch.optim.Adam(model.parameters())
    batches = [rows for _ in range(FILM_EPOCHS) for rows in torch.randperm(len(pixels)).split(16)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=len(batches))
    for rows in batches:
        loss = nn.functional.cross_entropy(model(pixel_values=pixels[rows]).logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _explain(model: PreTrainedModel, pixels: torch.Tensor, baselines: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    with torch.no_grad():
        decided = torch.cat([model(pixel_values=part).logits.argmax(dim=1) for part in pixels.split(20)])
    maps = attribute(METHODS[DEFAULT_METHOD], model, pixels, decided, baselines, _ELEMENTS_IN_FLIGHT).maps
    return maps.numpy(), decided
