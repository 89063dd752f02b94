"""Training losses: dense heads on the vision tower's cells, and the answer tokens."""

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from services.lvlm.nano import things
from services.lvlm.nano.batches import IGNORED, JOINT_COUNT, KINDS, READ_THINGS, STATUSES, Tokens
from services.lvlm.nano.stream import StepBatch

GROUND_WEIGHT = 0.4
READING_LAYER = 2  # of four: the two above can use what was read
MARK_WEIGHT = 3.0  # marks cover few cells and must count all the same


class DenseHeads(nn.Module):
    """Training-only heads: what covers a cell of the picture; segment and thing of a cell of the overlay."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.cover = nn.Linear(width, things.THING_COUNT)
        self.joint = nn.Linear(width, JOINT_COUNT)
        weights = torch.ones(things.THING_COUNT)
        weights[list(things.GROUNDS)] = GROUND_WEIGHT
        weights[list(things.MARKS)] = MARK_WEIGHT
        self.register_buffer("cover_weights", weights, persistent=False)
        joint_weights = weights.repeat(JOINT_COUNT // things.THING_COUNT)
        joint_weights[: things.THING_COUNT] *= GROUND_WEIGHT  # outside every segment
        self.register_buffer("joint_weights", joint_weights, persistent=False)

    def forward(self, cells: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Weighted cross-entropy against shares. Shapes: cells (record, 2, cell, width); targets (record, cell, classes)."""
        cells = self.norm(cells)
        cover, joint = targets.split([things.THING_COUNT, JOINT_COUNT], dim=2)
        loss = _soft_loss(self.cover(cells[:, 0]), cover, self.cover_weights)
        return loss + _soft_loss(self.joint(cells[:, 1]), joint, self.joint_weights)


class ReadingHead(nn.Module):
    """Training-only head: what a specification says of each thing, read where its lines end, half-way up the language model.

    Without it the words of a sentence and the clause that depends on them are connected by a few tokens far apart, which a model of this size
    takes very long to find.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.status = nn.Linear(width, len(READ_THINGS) * len(STATUSES))

    def forward(self, hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Cross-entropy over things. Shapes: hidden (example, token, width)."""
        ends = hidden[torch.arange(len(hidden)), tokens.read_at]
        logits = self.status(self.norm(ends)).unflatten(1, (len(READ_THINGS), len(STATUSES)))
        return nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), tokens.statuses.flatten(), ignore_index=IGNORED
        )


class SharesHead(nn.Module):
    """Training-only head: how much of a segment every thing has, read where the answer is about to name what it covers.

    The name alone tells of a segment of two things only on which side of a threshold it lies.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.share = nn.Linear(width, things.THING_COUNT)

    def forward(self, hidden: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        """Cross-entropy against shares. Shapes: hidden (example, token, width)."""
        named = hidden.take_along_dim(tokens.covers_at.unsqueeze(-1), dim=1)  # (example, segment, width)
        return _soft_loss(self.share(named), tokens.shares, torch.ones_like(tokens.shares))


class Helpers(nn.Module):
    """The training-only heads."""

    def __init__(self, vision_width: int, text_width: int) -> None:
        super().__init__()
        self.dense = DenseHeads(vision_width)
        self.reading = ReadingHead(text_width)
        self.shares = SharesHead(text_width)


def look(model: LlavaForConditionalGeneration, panels: torch.Tensor) -> torch.Tensor:
    """Features of the vision tower as the model itself uses them. Shapes: panels (record, 2, 3, side, side) uint8; (record, 2, cell, width)."""
    outputs = model.model.vision_tower(panels.flatten(0, 1) / 127.5 - 1, output_hidden_states=True)
    features = outputs.hidden_states[model.config.vision_feature_layer]
    return features.unflatten(0, panels.shape[:2])


def answer_losses(
    model: LlavaForConditionalGeneration, helpers: Helpers, cells: torch.Tensor, batch: StepBatch
) -> dict[str, torch.Tensor]:
    """Losses on the answers, by kind of question, on reading the specification and on the shares of what segments cover.

    Shapes: cells (record, 2, cell, width). All kinds go through the language model at once; padding stands right, so the causal mask alone hides it.
    """
    tokens, asked, searched = batch.questions, batch.asked_count, batch.searched_count
    shown = torch.cat(
        [cells[:asked].flatten(0, 1), cells[asked : asked + searched, 0]]
    )  # in the order of the questions
    features = model.model.multi_modal_projector(shown)  # (panel, cell, text width)
    embeddings = model.get_input_embeddings()(tokens.ids)
    is_image = (tokens.ids == model.config.image_token_id).unsqueeze(-1)
    embeddings = embeddings.masked_scatter(is_image, features.to(embeddings.dtype))
    outputs = model.model.language_model(inputs_embeds=embeddings, use_cache=False, output_hidden_states=True)
    is_next = tokens.labels[:, 1:] != IGNORED
    logits = model.lm_head(outputs.last_hidden_state[:, :-1][is_next])  # (labelled token, vocabulary)
    by_token = nn.functional.cross_entropy(logits.float(), tokens.labels[:, 1:][is_next], reduction="none")
    parts = _mean_by_kind(by_token, tokens.kinds.unsqueeze(1).expand_as(is_next)[is_next])
    parts["reading"] = helpers.reading(outputs.hidden_states[READING_LAYER], tokens)
    parts["shares"] = helpers.shares(outputs.last_hidden_state, tokens)
    return parts


def _mean_by_kind(losses: torch.Tensor, kinds: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every kind of question counts alike, however many words its answers have."""
    sums = losses.new_zeros(len(KINDS)).index_add(0, kinds, losses)
    counts = losses.new_zeros(len(KINDS)).index_add(0, kinds, torch.ones_like(losses))
    return dict(zip(KINDS, sums / counts.clamp(min=1), strict=True))


def _soft_loss(logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against shares, 0 where there are none."""
    weighted = shares * weights
    return -(weighted * logits.float().log_softmax(dim=-1)).sum() / weighted.sum().clamp(min=1e-6)
