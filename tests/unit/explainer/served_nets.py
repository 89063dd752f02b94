"""Tiny nets of `transformers` with random weights, and what tests look at in them."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from services.common.vision.nets import (
    MlpConfig,
    MlpForImageClassification,
    SmallCnnConfig,
    SmallCnnForImageClassification,
)

SIDE_PX = 32


def pictures(
    count: int, channels: int, height: int, width: int, seed: int = 1, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mlp() -> PreTrainedModel:
    """For 1 × 8 × 8."""
    return _made(MlpForImageClassification, MlpConfig(image_size=8, hidden_sizes=(12, 9), num_labels=4))


def small_cnn() -> PreTrainedModel:
    """For 1 × 8 × 8."""
    return _made(SmallCnnForImageClassification, SmallCnnConfig(image_size=8, widths=(4, 6), num_labels=4))


def resnet() -> PreTrainedModel:
    """For 3 × 32 × 32; its last stage keeps 2 × 2 places. Maps are averaged and a linear layer follows."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12, 16], depths=[1, 1, 1], num_labels=4)
    return _made(ResNetForImageClassification, config)


def convnext() -> PreTrainedModel:
    """For 3 × 32 × 32; its last stage keeps 2 × 2 places."""
    config = ConvNextConfig(num_stages=3, hidden_sizes=[8, 12, 16], depths=[1, 1, 1], num_labels=4)
    return _made(ConvNextForImageClassification, config)


def vit(attention: str = "sdpa") -> PreTrainedModel:
    """For 3 × 32 × 32: 4 × 4 places and a class token, which alone is read."""
    config = ViTConfig(
        image_size=SIDE_PX,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=4,
        attn_implementation=attention,
    )
    return _made(ViTForImageClassification, config)


def swin() -> PreTrainedModel:
    """For 3 × 32 × 32: tokens without a class token, 8 × 8, then 4 × 4."""
    config = SwinConfig(
        image_size=SIDE_PX, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=4
    )
    return _made(SwinForImageClassification, config)


FAMILIES = {"resnet": resnet, "convnext": convnext, "vit": vit}


def _made(kind: type[PreTrainedModel], config: object) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # transformers begins with weights so small that every logit is nearly the same.
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def hooks(net: nn.Module) -> int:
    """How many hooks lie on the net's modules."""
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in net.modules()
    )
