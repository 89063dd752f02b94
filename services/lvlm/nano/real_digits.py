"""Real digits with decoys, and a small network that learns the decoy: the test `nano` never trained for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from services.lvlm.nano import things
from services.lvlm.nano.scenes import INK_RATIO

SIDE_PX, DECOY_PX, BOX_PX = 28, 4, 20
BASELINE_COUNT, PATH_STEPS, EPOCHS = 16, 8, 40


@dataclass(frozen=True)
class DecoyDigits:
    """Shapes: pictures (n, 28, 28) uint8; covers (n, 28, 28) uint8 codes of `things`; labels (n,)."""

    pictures: np.ndarray
    covers: np.ndarray
    labels: np.ndarray


def load_small_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 8x8 digits, enlarged to 20x20 and padded to 28x28."""
    bunch = load_digits()
    margin = (SIDE_PX - BOX_PX) // 2
    pictures = np.zeros((len(bunch.images), SIDE_PX, SIDE_PX), dtype=np.uint8)
    for picture, small in zip(pictures, bunch.images, strict=True):
        image = Image.fromarray((small / 16 * 255).astype(np.uint8))
        big = image.resize((BOX_PX, BOX_PX), Image.Resampling.BICUBIC)
        picture[margin:-margin, margin:-margin] = np.asarray(big)
    return pictures, bunch.target.astype(np.int64)


def load_mnist(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first 10,000 training pictures of a folder's mnist.npz."""
    with np.load(folder / "mnist.npz") as arrays:
        return arrays["train_images"][:10000], arrays["train_labels"][:10000].astype(np.int64)


def add_decoys(rng: np.random.Generator, pictures: np.ndarray, labels: np.ndarray) -> DecoyDigits:
    """Put a 4x4 block of grey 255 - 25 * label into a random corner, as in DecoyMNIST."""
    pictures = pictures.copy()
    covers = np.where(pictures > INK_RATIO * 255, things.DIGIT, things.BACKGROUND).astype(np.uint8)
    far = SIDE_PX - DECOY_PX
    for picture, cover, label in zip(pictures, covers, labels, strict=True):
        top, left = rng.choice((0, far), 2)
        window = np.s_[top : top + DECOY_PX, left : left + DECOY_PX]
        picture[window], cover[window] = 255 - 25 * label, things.SQUARE
    return DecoyDigits(pictures, covers, labels)


def train_shortcut_network(digits: DecoyDigits, seed: int) -> nn.Module:
    """Train the 50-30 network on the decoy digits; it learns the decoy."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(SIDE_PX**2, 50), nn.ReLU(), nn.Linear(50, 30), nn.ReLU(), nn.Linear(30, 10))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    pixels, labels = _flatten(digits.pictures), torch.from_numpy(digits.labels)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(pixels)).split(128):
            loss = nn.functional.cross_entropy(network(pixels[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def attribute(network: nn.Module, digits: DecoyDigits, chosen: np.ndarray, seed: int) -> np.ndarray:
    """Positive expected gradients against real baselines. Shapes: (chosen, 28, 28), each map summing to 1."""
    generator = torch.Generator().manual_seed(seed)
    pixels = _flatten(digits.pictures)
    baselines = pixels[torch.randperm(len(pixels), generator=generator)[:BASELINE_COUNT]]
    steps = (torch.arange(PATH_STEPS) + 0.5) / PATH_STEPS
    maps = []
    for index in chosen:
        difference = pixels[index] - baselines  # (baseline, pixel)
        points = (baselines[:, None] + steps[:, None] * difference[:, None]).requires_grad_()  # (baseline, step, pixel)
        (gradient,) = torch.autograd.grad(network(points)[..., int(digits.labels[index])].sum(), points)
        positive = (gradient.mean(dim=1) * difference).mean(dim=0).clamp(min=0).double()
        maps.append((positive / positive.sum()).reshape(SIDE_PX, SIDE_PX).numpy())
    return np.stack(maps)


def _flatten(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures.reshape(len(pictures), -1).astype(np.float32) / 255)
