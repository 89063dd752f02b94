"""Our preprocessing against the image processors of `transformers`: the same numbers, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from PIL import Image

from services.common.runtime.errors import InvalidInput, Unsupported
from services.common.vision.preprocessing import Preprocessor

ROUNDING = 1e-5  # float32, the factor multiplied in another order
PICTURE = np.random.default_rng(0).integers(0, 256, (23, 37, 3), dtype=np.uint8)

TAKEN = {
    "only the name": {"image_processor_type": "ViTImageProcessor"},
    "name of the fast one": {"image_processor_type": "ViTImageProcessorFast"},
    "name of old": {"feature_extractor_type": "ViTFeatureExtractor", "size": 32},
    "one mean for all channels": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 20, "width": 30},
        "image_mean": 0.4,
        "image_std": 0.2,
    },
    "bicubic": {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 16}, "resample": 3},
    "not normalised": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 9, "width": 9},
        "do_normalize": False,
    },
    "not rescaled": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 9, "width": 9},
        "do_rescale": False,
    },
    "ImageNet's mean by default": {"image_processor_type": "PvtImageProcessor", "size": {"height": 24, "width": 24}},
    "square that ConvNeXT warps to": {"image_processor_type": "ConvNextImageProcessor"},
}


@pytest.mark.parametrize("config", TAKEN.values(), ids=TAKEN)
def test_pixels_equal_those_of_the_named_processor(config):
    name = config.get("image_processor_type", "ViTImageProcessor").removesuffix("Fast")
    processor = getattr(transformers, f"{name}Pil").from_dict(dict(config))
    expected = processor(Image.fromarray(PICTURE), return_tensors="np")["pixel_values"][0]
    found = Preprocessor.from_config(config, 3)(PICTURE)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < ROUNDING * np.abs(expected).max()


VIT = {"image_processor_type": "ViTImageProcessor"}
REFUSED = {
    "normalises twice": {"image_processor_type": "EfficientNetImageProcessor"},
    "crops": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}},
    "crops by default": {"image_processor_type": "DeiTImageProcessor"},
    "size depends on the picture": VIT | {"size": {"shortest_edge": 224}},
    "flips channels": {"image_processor_type": "MobileViTImageProcessor"},
    "unknown processor": {"image_processor_type": "NobodysImageProcessor"},
    "no processor": {"image_processor_type": "ViTModel"},
    "code of its own": VIT | {"auto_map": {"AutoImageProcessor": "mine.Processor"}},
    "unknown step": VIT | {"do_equalize": True},
    "unknown step in a file of ours": {"size": {"height": 4, "width": 4}, "rescale_offset": True},
    "not resized": VIT | {"do_resize": False},
    "not resized in a file of ours": {"size": {"height": 4, "width": 4}, "do_resize": False},
    "no size in a file of ours": {"do_resize": True},
}


@pytest.mark.parametrize("config", REFUSED.values(), ids=REFUSED)
def test_step_that_we_do_not_take_is_refused_and_never_skipped(config):
    with pytest.raises(Unsupported, match=r"preprocessor_config\.json"):
        Preprocessor.from_config(config, 3)


OURS = {"size": {"height": 4, "width": 4}, "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
WRONG = {
    "no mean": {"image_mean": None},
    "no mean for a named processor": VIT | {"image_mean": None},
    "mean of one channel": {"image_mean": [0.5]},
    "mean that is no number": {"image_mean": ["a", "b", "c"]},
    "deviation of nothing": {"image_std": [0.0, 0.5, 0.5]},
    "no height": {"size": {"height": None, "width": 4}},
    "no pixels": {"size": {"height": 0, "width": 4}},
    "unknown filter": {"resample": 99},
    "no factor": {"rescale_factor": None},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_value_that_its_key_may_not_have_is_refused(change):
    Preprocessor.from_config(OURS, 3)
    with pytest.raises(InvalidInput):
        Preprocessor.from_config(OURS | change, 3)
