"""Boxes to pixels: superpixels, and a segmentation model from a folder."""

import numpy as np
import pytest

from services.lvlm.adapters.sam_segmenter import SamSegmenter
from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.superpixels import outline


def lesion(side: int) -> tuple[np.ndarray, np.ndarray, PixelBox]:
    """A brown disc on noisy skin, the disc's pixels, and the smallest box around it."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] - side // 2
    radius = side // 4
    disc = rows**2 + columns**2 < radius**2
    drawn = np.where(disc[:, :, None], (90, 55, 40), (200, 160, 140)) + rng.normal(0, 10, (side, side, 3))
    start, end = side // 2 - radius + 1, side // 2 + radius
    return drawn.clip(0, 255).astype(np.uint8), disc, PixelBox(start, start, end, end)


@pytest.mark.parametrize("side", [28, 112, 600])
def test_outline_of_a_disc_is_nearer_to_it_than_its_box(side):
    drawn, disc, box = lesion(side)
    kept, truth = outline(drawn, box), disc[box.window]
    iou = (kept & truth).sum() / (kept | truth).sum()
    assert iou > max(0.85, truth.mean())


def test_what_does_not_differ_from_its_surroundings_has_no_outline():
    assert not outline(np.full((40, 40), 128, np.uint8), PixelBox(10, 10, 20, 20)).any()


def test_box_around_the_whole_picture_is_kept_whole():
    assert outline(lesion(40)[0], PixelBox(0, 0, 40, 40)).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("right_px", [598, 599])
def test_box_whose_ring_is_too_thin_to_be_seen_is_kept_whole(right_px):
    assert outline(lesion(600)[0], PixelBox(0, 0, 600, right_px)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 300)])
def test_tiny_pictures_are_outlined_too(size):
    box = PixelBox(0, 0, 1, 1)
    assert outline(np.zeros(size, np.uint8), box).shape == (1, 1)


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory):
    """A Segment Anything model of random weights, 64 × 64 pixels."""
    import torch
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32,
            "image_size": 64, "patch_size": 16, "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    SamModel(config).save_pretrained(folder)
    sides = {"height": 64, "width": 64}
    SamProcessor(SamImageProcessor(size={"longest_edge": 64}, pad_size=sides)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("shape", [(40, 60, 3), (28, 28)])
async def test_segmentation_model_gives_the_pixels_of_every_box(sam_folder, shape):
    boxes = [PixelBox(2, 3, 20, 25), PixelBox(0, 0, 10, 12)]
    kept = await SamSegmenter(sam_folder).segment(np.random.default_rng(0).integers(0, 255, shape, np.uint8), boxes)
    assert [mask.shape for mask in kept] == [(18, 22), (10, 12)]
    assert all(mask.dtype == bool for mask in kept)


def test_folder_that_holds_no_model_fails_when_it_is_opened(tmp_path):
    with pytest.raises(OSError, match="processor_config"):
        SamSegmenter(tmp_path)
