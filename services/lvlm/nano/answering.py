"""Ask a saved model folder, in batches, the plain `transformers` way."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from services.lvlm.nano.prompting import with_images


class Nano:
    """A loaded model folder. Greedy answers; left padding."""

    def __init__(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(folder)
        self._model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(
        self, prompts: Sequence[str], images: Sequence[Sequence[Image.Image]] | None, max_new_tokens: int
    ) -> list[str]:
        """Answer each prompt; `images` holds each prompt's panels, or is None for text only."""
        count = len(images[0]) if images else 0
        texts = [with_images(prompt, count, is_expanded=False) for prompt in prompts]
        pictures = [list(panels) for panels in images] if images else None
        inputs = self._processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=max_new_tokens)
        fresh = tokens[:, inputs["input_ids"].shape[1] :]
        return self._processor.batch_decode(fresh, skip_special_tokens=True)
