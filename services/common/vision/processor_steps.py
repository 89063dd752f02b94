"""What a `preprocessor_config.json` asks for, absent keys filled in: taken when it is resize, rescale, normalise, refused when not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.common.runtime.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from transformers.image_processing_backends import PilBackend

FILE = "preprocessor_config.json"
_OURS = {"resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False}
_TAKEN = {
    *("do_resize", "size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
    "do_convert_rgb",  # pictures come as the model's channels say, always
}
# Say nothing about the pixels, or belong to steps that are refused by their own switch.
_WITHOUT_EFFECT = {
    *("image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys"),
    *("crop_size", "crop_pct", "pad_size", "default_to_square", "data_format", "input_data_format", "return_tensors"),
}
_STEPS = ("_preprocess", "resize", "rescale", "normalize")
_WARPING_EDGE_PX = 384  # from here on ConvNeXT's processor warps to a square; below it crops


def complete_steps(config: Mapping[str, object]) -> dict[str, object]:
    """`config` with the defaults of the image processor that it names, or ours when it names none.

    Raises
    ------
    Unsupported
        When the processor is unknown or has steps of its own, or a key asks for a step that is not built.
    InvalidInput
        When the processor does not take the values.
    """
    processor = build_processor(config)
    steps = _OURS | dict(config) if processor is None else _steps_of(processor)
    if not steps.get("do_resize", True):
        raise Unsupported(f"{FILE}: do_resize must be true: pictures come in any size")
    for key in sorted(steps):
        if steps[key] and key not in _TAKEN | _WITHOUT_EFFECT:
            raise Unsupported(f"{FILE}: {key} is not supported; resize, rescale and normalise only")
    return steps


def read_size(steps: Mapping[str, object]) -> tuple[int, int]:
    """Height and width in pixels.

    Raises
    ------
    Unsupported
        When the size depends on the picture.
    """
    size = steps.get("size")
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    raise Unsupported(f"{FILE}: size must give height and width")


def build_processor(config: Mapping[str, object]) -> PilBackend | None:
    """The image processor of transformers that `config` names, without torchvision; None when it names none.

    Raises
    ------
    Unsupported
        When there is no such processor.
    InvalidInput
        When it does not take the values.
    """
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    if not name:
        return None
    # Here and not above: these bring torch along, which a service that only decodes pictures need not wait for.
    import transformers
    from transformers.image_processing_backends import PilBackend

    name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    processor_class = getattr(transformers, f"{name}Pil", None)
    if not (isinstance(processor_class, type) and issubclass(processor_class, PilBackend)):
        raise Unsupported(f"{FILE}: transformers has no image processor '{name}' without torchvision")
    try:
        return processor_class.from_dict(dict(config))
    except Exception as error:
        # The file is foreign input, and each processor checks its values in its own way.
        raise InvalidInput(FILE, f"{name} does not take it: {error}") from error


def _steps_of(processor: PilBackend) -> dict[str, object]:
    """The file as the processor would complete it."""
    from transformers import ConvNextImageProcessorPil
    from transformers.image_processing_backends import PilBackend

    steps = processor.to_dict()
    if type(processor) is ConvNextImageProcessorPil:
        return steps | {"size": _square_of(steps["size"])}
    if any(getattr(type(processor), step) is not getattr(PilBackend, step) for step in _STEPS):
        name = type(processor).__name__.removesuffix("Pil")
        raise Unsupported(f"{FILE}: {name} has steps of its own; resize, rescale and normalise only")
    return steps


def _square_of(size: Mapping[str, object]) -> dict[str, int]:
    """The square that ConvNeXT's processor warps a picture to."""
    edge = int(size.get("shortest_edge") or 0)
    if edge < _WARPING_EDGE_PX:
        raise Unsupported(f"{FILE}: pictures would be cropped; expected a shortest_edge of {_WARPING_EDGE_PX} or more")
    return {"height": edge, "width": edge}
