"""The pictures of a job as its model takes them: preprocessed, with labels by number and the masks that its critiques make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from services.common.vision.critique import Critique, Verdict
from services.common.vision.masks import decode_mask
from services.common.vision.model_bundle import ModelBundle
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.trainer.domain.pictures import Pictures
from services.trainer.ports import Sample


def load_pictures(bundle: ModelBundle, samples: Sequence[Sample]) -> Pictures:
    """All of `samples`, without masks."""
    rows = [_preprocess(bundle, sample) for sample in samples]
    labels = torch.tensor([bundle.labels.index(sample.label) for sample in samples], dtype=torch.int64)
    return Pictures(torch.from_numpy(np.stack(rows)), labels)


def load_critiqued(bundle: ModelBundle, chosen: Mapping[str, Sample], critiques: Sequence[Critique]) -> Pictures:
    """The critiqued pictures of `chosen` (by digest), with the union of their spurious segments at the model's input size."""
    size = (bundle.preprocessor.height_px, bundle.preprocessor.width_px)
    masks = stack_masks(critiques, Verdict.SPURIOUS, size)
    if not critiques:
        return Pictures(torch.zeros((0, bundle.preprocessor.channels, *size)), torch.zeros(0, dtype=torch.int64), masks)
    return replace(load_pictures(bundle, [chosen[critique.image_digest] for critique in critiques]), masks=masks)


def stack_masks(critiques: Sequence[Critique], verdict: Verdict, size: tuple[int, int]) -> torch.Tensor:
    """Unions of the segments with that verdict, bool (critique, height, width), at `size`."""
    masks = np.zeros((len(critiques), *size), dtype=bool)
    for union, critique in zip(masks, critiques, strict=True):
        for judged in critique.verdicts:
            if judged.verdict is verdict:
                mask = decode_mask(judged.mask.counts, *judged.mask.size)
                union |= np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    return torch.from_numpy(masks)


def _preprocess(bundle: ModelBundle, sample: Sample) -> np.ndarray:
    return bundle.preprocessor(decode_image(sample.path.read_bytes(), ImageLimits(), sample.file_name))
