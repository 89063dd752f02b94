"""Hold a model's answers to JSON schemas while it writes them, with llguidance: one automaton per row of a batch.

llguidance takes any fast tokenizer, our byte-level one too, and brings no packages along; `xgrammar` would bring the GPU compiler
`triton`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from services.common.runtime.errors import BadModelOutput

_FORM = {"whitespace_pattern": " "}  # at most one space between two signs: an answer can't be whitespace to its end
_MAX_GRAMMARS = 256
_BITS = 32


class Constraints:
    """What holds the answers of one model."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
        """Read the tokenizer once.

        Raises
        ------
        ValueError
            When the tokenizer is not a fast one: then this model can't be held.
        """
        self._tokenizer = from_tokenizer(
            tokenizer,
            n_vocab=model.get_output_embeddings().weight.shape[0],
            eos_token=model.generation_config.eos_token_id,
        )
        self._start_matcher = lru_cache(_MAX_GRAMMARS)(self._compile)

    def check(self, schema: Mapping[str, Any]) -> None:
        """Compile a schema ahead of its use.

        Raises
        ------
        BadModelOutput
            When no answer can be held to it.
        """
        self._start_matcher(json.dumps(schema))

    def hold(self, schemas: Sequence[Mapping[str, Any] | None]) -> LogitsProcessor | None:
        """For one `generate` call, a schema or None per row; None when no row has one."""
        if not any(schemas):
            return None
        return _RowConstraints(
            [self._start_matcher(json.dumps(schema)).deep_copy() if schema else None for schema in schemas]
        )

    def _compile(self, schema: str) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_json_schema(schema, overrides=_FORM))
        if matcher.is_error():
            raise BadModelOutput(f"no answer can be held to this schema: {matcher.get_error()}")
        return matcher


class _RowConstraints(LogitsProcessor):
    """Forbids each row the tokens that its schema has no place for."""

    def __init__(self, matchers: Sequence[LLMatcher | None]) -> None:
        self._matchers = matchers
        self._has_written = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Shapes: input_ids (rows, length), scores (rows, vocabulary)."""
        if self._has_written:
            self._follow(input_ids[:, -1].tolist())
        self._has_written = True
        return scores.masked_fill(~self._allow(scores), -torch.inf)

    def _follow(self, tokens: Sequence[int]) -> None:
        for matcher, token in zip(self._matchers, tokens, strict=True):
            if matcher and not matcher.is_stopped():  # padding comes after the end
                matcher.consume_token(token)

    def _allow(self, scores: torch.Tensor) -> torch.Tensor:
        """Which tokens may come: bool, in the shape of `scores`."""
        words = allocate_token_bitmask(*scores.shape)  # all ones: a row without a schema may write anything
        for row, matcher in enumerate(self._matchers):
            if matcher:
                fill_next_token_bitmask(matcher, words, row)
        bits = words.to(scores.device)[:, :, None] >> torch.arange(_BITS, dtype=torch.int32, device=scores.device)
        return (bits & 1).bool().flatten(1)[:, : scores.shape[1]]
