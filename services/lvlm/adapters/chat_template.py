"""Questions as a local model reads them: rendered by its folder's chat template, and how many tokens that makes."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from services.common.runtime.errors import BadModelOutput
from services.lvlm.ports import Question

_MAX_SIZES = 1024


class ChatTemplate:
    """The chat template of a model folder."""

    def __init__(self, processor: ProcessorMixin) -> None:
        """Raises `ValueError` when the folder has no chat template."""
        self._processor = processor
        tokenizer = processor.tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()}
        self._marks = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
        self.render(Question("?"))

    def render(self, question: Question) -> str:
        """The question's text with a mark per picture, up to where the answer begins."""
        parts = [{"type": "text", "text": self._defuse(question.text)}, *({"type": "image"} for _ in question.images)]
        return self._processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )

    def _defuse(self, text: str) -> str:
        """Break up the tokenizer's own marks in a text: a specification can't add a picture or end the turn."""
        for mark in self._marks:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        return text


class TokenCounter:
    """How long questions are, before any of them is in a batch. Serves one thread, and wants a processor of its own."""

    def __init__(self, processor: ProcessorMixin, model: PreTrainedModel) -> None:
        self._processor = processor
        self._template = ChatTemplate(processor)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._most = min(processor.tokenizer.model_max_length, positions or processor.tokenizer.model_max_length)
        self._count_picture = lru_cache(_MAX_SIZES)(self._measure_picture)
        self._empty_count = self._count_text(Question("?"))

    def count(self, question: Question) -> int:
        """Tokens of the question as the model reads it, pictures included, and of its longest answer.

        Raises
        ------
        BadModelOutput
            When they are more than the model's context.
        """
        pictures = sum(self._count_picture(image.size) for image in question.images)
        count = self._count_text(question) + pictures + question.max_new_tokens
        if count > self._most:
            raise BadModelOutput(f"question and answer come to {count} tokens; the model's context has {self._most}")
        return count

    def _count_text(self, question: Question) -> int:
        text_alone = Question(question.text)
        return len(self._processor.tokenizer(self._template.render(text_alone))["input_ids"])

    def _measure_picture(self, size: tuple[int, int]) -> int:
        """Tokens that a picture of `size`, (width, height) in pixels, adds to a question."""
        blank = Image.new("RGB", size)
        text = self._template.render(Question("?", (blank,)))
        return len(self._processor(text=[text], images=[[blank]])["input_ids"][0]) - self._empty_count
