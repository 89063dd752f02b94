"""The `Segmenter` port on a Segment Anything model (Kirillov et al. 2023, arXiv 2304.02643) from a folder, asked with boxes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from transformers import SamModel, SamProcessor

from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.panels import to_rgb


class SamSegmenter:
    """One thread owns the model; pictures are segmented one after the other."""

    def __init__(self, folder: Path) -> None:
        self._processor = SamProcessor.from_pretrained(folder, local_files_only=True)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = SamModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        self._model = model.to(self._device).eval()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="segmenter")

    async def segment(self, picture: np.ndarray, boxes: Sequence[PixelBox]) -> list[np.ndarray]:
        """See the port."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._segment, picture, boxes)

    def _segment(self, picture: np.ndarray, boxes: Sequence[PixelBox]) -> list[np.ndarray]:
        prompts = [
            [[float(box.left_px), float(box.top_px), float(box.right_px), float(box.bottom_px)] for box in boxes]
        ]
        inputs = self._processor(images=to_rgb(picture), input_boxes=prompts, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs, multimask_output=False)
        (masks,) = self._processor.image_processor.post_process_masks(
            outputs.pred_masks.cpu(), inputs["original_sizes"].cpu(), inputs["reshaped_input_sizes"].cpu()
        )  # (boxes, 1, height, width)
        return [mask[0].numpy()[box.window] for mask, box in zip(masks, boxes, strict=True)]
