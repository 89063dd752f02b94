"""Small research nets as `transformers` models, so that they load, save and serve like any checkpoint.

Written so that double backward works and every layer can be looked at: an activation is a module of its own, used once.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput


class MlpConfig(PreTrainedConfig):
    """A multi-layer perceptron on flattened pixels; `hidden_sizes` (50, 30) is the net of Ross et al. 2017."""

    model_type = "plumbline_mlp"

    def __init__(
        self, image_size: int = 28, num_channels: int = 1, hidden_sizes: tuple[int, ...] = (50, 30), **kwargs: object
    ) -> None:
        self.image_size = image_size
        self.num_channels = num_channels
        self.hidden_sizes = list(hidden_sizes)
        super().__init__(**kwargs)


class SmallCnnConfig(PreTrainedConfig):
    """Convolution blocks (3×3, ReLU, stride-2 average pooling) and a linear head."""

    model_type = "plumbline_small_cnn"

    def __init__(
        self, image_size: int = 28, num_channels: int = 1, widths: tuple[int, ...] = (16, 32), **kwargs: object
    ) -> None:
        self.image_size = image_size
        self.num_channels = num_channels
        self.widths = list(widths)
        super().__init__(**kwargs)


class _Classifier(PreTrainedModel):
    main_input_name = "pixel_values"

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **_: object
    ) -> ImageClassifierOutput:
        """Logits (batch, classes) of `pixel_values` (batch, channels, height, width)."""
        logits = self.layers(pixel_values)
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return ImageClassifierOutput(loss=loss, logits=logits)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.reset_parameters()


class MlpForImageClassification(_Classifier):
    config_class = MlpConfig

    def __init__(self, config: MlpConfig) -> None:
        super().__init__(config)
        width = config.num_channels * config.image_size**2
        layers: list[nn.Module] = [nn.Flatten()]
        for hidden in config.hidden_sizes:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(width, config.num_labels))
        self.post_init()


class SmallCnnForImageClassification(_Classifier):
    config_class = SmallCnnConfig

    def __init__(self, config: SmallCnnConfig) -> None:
        super().__init__(config)
        channels, side = config.num_channels, config.image_size
        layers: list[nn.Module] = []
        for width in config.widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
            channels, side = width, side // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, config.num_labels))
        self.post_init()


def register_nets() -> None:
    """Make the nets known to the Auto classes; may be called again."""
    for config, model in ((MlpConfig, MlpForImageClassification), (SmallCnnConfig, SmallCnnForImageClassification)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForImageClassification.register(config, model, exist_ok=True)
