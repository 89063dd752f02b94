"""Bend a scene as a whole: other proportions than its world draws, so that none of them is learned by heart."""

import numpy as np
import torch
from torch.nn import functional

from services.lvlm.nano.worlds.scene import Scene

_KNOTS = 4  # a side: the fewer, the smoother the bend
_BEND = 0.05  # how far a knot moves; a picture runs from -1 to 1
_STRETCH = 0.12  # of an axis, as a logarithm
_SHEAR = 0.06


def bend(rng: np.random.Generator, scene: Scene) -> Scene:
    """Stretch, shear and bend picture and cover alike, about the centre. What comes in over an edge repeats the edge."""
    source = _draw_map(rng, scene.cover.shape[0])
    planes = scene.picture[:, :, None] if scene.picture.ndim == 2 else scene.picture
    picture = _sample(planes, source, "bilinear").reshape(scene.picture.shape)
    return Scene(picture, _sample(scene.cover[:, :, None], source, "nearest")[:, :, 0])


def _draw_map(rng: np.random.Generator, side_px: int) -> torch.Tensor:
    """Where each pixel comes from. Shapes: (1, side_px, side_px, 2), x and y from -1 to 1."""
    matrix = np.diag(np.exp(rng.normal(0, _STRETCH, 2))) + np.fliplr(np.diag(rng.normal(0, _SHEAR, 2)))
    affine = torch.tensor(np.column_stack([matrix, np.zeros(2)]), dtype=torch.float32)
    straight = functional.affine_grid(affine[None], [1, 1, side_px, side_px], align_corners=False)
    knots = torch.tensor(rng.normal(0, rng.uniform(0, _BEND), (1, 2, _KNOTS, _KNOTS)), dtype=torch.float32)
    moved = functional.interpolate(knots, size=(side_px, side_px), mode="bicubic", align_corners=True)
    return straight + moved.permute(0, 2, 3, 1)


def _sample(planes: np.ndarray, source: torch.Tensor, mode: str) -> np.ndarray:
    """Shapes: planes and the result (side, side, plane) uint8."""
    values = torch.from_numpy(planes).permute(2, 0, 1)[None].float()
    sampled = functional.grid_sample(values, source, mode=mode, padding_mode="border", align_corners=False)
    return sampled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
