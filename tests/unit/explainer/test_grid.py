"""Which layer a class activation map reads, by family of nets, and how its places are brought over the picture."""

import threading

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from services.explainer.domain.attribution.base import Logits, MethodUnfit
from services.explainer.domain.attribution.grid import Grid, find_grid, listening
from tests.unit.explainer.served_nets import (
    SIDE_PX,
    convnext,
    hooks,
    mlp,
    pictures,
    resnet,
    small_cnn,
    swin,
    vit,
)

PRESETS = {
    "resnet": (resnet, "resnet.encoder.stages.2", Grid(2, 2)),
    "convnext": (convnext, "convnext.encoder.stages.2", Grid(2, 2)),
    "vit": (vit, "vit.layers.1", Grid(4, 4, is_tokens=True)),
    # Its dropout has weights of attention for an output, 17 × 17, which are no map.
    "vit, attention written out": (lambda: vit("eager"), "vit.layers.1", Grid(4, 4, is_tokens=True)),
    "swin": (swin, "swin.encoder.layers.1", Grid(4, 4, is_tokens=True)),
}


class ChannelsLast(nn.Module):
    """Keeps its maps with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.mix, self.head = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 7), nn.Linear(7, 4)
        self.double()

    def forward(self, pixel_values):
        maps = self.mix(self.stem(pixel_values).permute(0, 2, 3, 1))
        return ImageClassifierOutput(logits=self.head(maps.mean(dim=(1, 2))))


class Colours(nn.Module):
    """Reads the mean colour alone; a layer that nothing reads has a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.unread, self.head = nn.Conv2d(3, 2, 4, stride=4), nn.Linear(3, 4)
        self.double()

    def forward(self, pixel_values):
        self.unread(pixel_values)
        return ImageClassifierOutput(logits=self.head(pixel_values.mean(dim=(2, 3))))


def name_of(layer: nn.Module, net: nn.Module) -> str:
    return next(name for name, module in net.named_modules() if module is layer)


@pytest.mark.parametrize("family", PRESETS)
def test_layer_is_the_last_whose_places_the_logits_depend_on(family):
    made, expected, expected_grid = PRESETS[family]
    net = made()
    layer, grid = find_grid(Logits(net), pictures(2, 3, SIDE_PX, SIDE_PX))
    assert (name_of(layer, net), grid) == (expected, expected_grid)
    assert hooks(net) == 0


def test_small_cnn_is_read_after_its_last_pooling():
    net = small_cnn()
    layer, grid = find_grid(Logits(net), pictures(1, 1, 8, 8))
    assert (name_of(layer, net), grid) == ("layers.5", Grid(2, 2))


def test_maps_with_channels_last_and_more_columns_than_rows_are_read():
    net = ChannelsLast()
    layer, grid = find_grid(Logits(net), pictures(1, 3, 32, 48))
    assert (layer, grid) == (net.mix, Grid(8, 12, has_channels_last=True))


@pytest.mark.parametrize(("net", "channels", "side"), [(mlp(), 1, 8), (Colours(), 3, 32)], ids=["mlp", "unread grid"])
def test_net_whose_logits_depend_on_no_grid_is_unfit(net, channels, side):
    with pytest.raises(MethodUnfit):
        find_grid(Logits(net), pictures(1, channels, side, side))


def test_tokens_are_laid_out_row_by_row_without_those_before_them():
    tokens = torch.arange(2 + 6.0).reshape(1, 8, 1)
    grid = Grid(2, 3, is_tokens=True)
    assert grid.read(tokens).tolist() == [[[[2, 3, 4], [5, 6, 7]]]]
    assert grid.silence(tokens).flatten().tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_tokens_of_a_vit_are_read_where_their_patch_lies():
    net, plain = vit(), pictures(1, 3, SIDE_PX, SIDE_PX)
    changed = plain.clone()
    changed[:, :, 8:16, 24:32] += 1
    heard = []
    with listening([net.vit.embeddings], lambda _, output: heard.append(output)):
        net(plain), net(changed)
    moved = Grid(4, 4, is_tokens=True).read(heard[1] - heard[0]).abs().sum(dim=1)[0]
    assert moved.nonzero().tolist() == [[1, 3]]


def test_what_is_heard_stays_as_it_is_when_the_next_layer_works_in_place_and_other_threads_are_not_heard():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=True))
    inputs, heard = torch.randn(64, 2), []
    with listening([net[0]], lambda _, output: heard.append(output)):
        net(inputs)
        thread = threading.Thread(target=net, args=(inputs,))
        thread.start()
        thread.join()
    assert len(heard) == 1
    assert torch.equal(heard[0], net[0](inputs))
    assert heard[0].min() < 0
