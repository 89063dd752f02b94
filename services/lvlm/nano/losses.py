"""Training losses: dense heads on the vision tower's cells, and the answer tokens."""

import torch
from torch import nn
from transformers import LlavaForConditionalGeneration

from services.lvlm.nano import things
from services.lvlm.nano.batches import IGNORED, JOINT_COUNT, READ_THINGS, STATUSES, Tokens

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


def look(model: LlavaForConditionalGeneration, panels: torch.Tensor) -> torch.Tensor:
    """Features of the vision tower as the model itself uses them. Shapes: (record, 2, cell, width)."""
    outputs = model.model.vision_tower(panels.flatten(0, 1), output_hidden_states=True)
    features = outputs.hidden_states[model.config.vision_feature_layer]
    return features.unflatten(0, panels.shape[:2])


def picture_loss(
    model: LlavaForConditionalGeneration, reading: ReadingHead, cells: torch.Tensor, tokens: Tokens
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses on the answers to questions about pictures, and on reading them. Shapes: cells (question, picture, cell, width)."""
    features = model.model.multi_modal_projector(cells)  # (question, picture, cell, text width)
    embeddings = model.get_input_embeddings()(tokens.ids)
    is_image = (tokens.ids == model.config.image_token_id).unsqueeze(-1)
    embeddings = embeddings.masked_scatter(is_image, features.to(embeddings.dtype))
    return answer_loss(model, reading, embeddings, tokens)


def text_loss(
    model: LlavaForConditionalGeneration, reading: ReadingHead, tokens: Tokens
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses on the answers to questions without pictures, and on reading them."""
    return answer_loss(model, reading, model.get_input_embeddings()(tokens.ids), tokens)


def answer_loss(
    model: LlavaForConditionalGeneration, reading: ReadingHead, embeddings: torch.Tensor, tokens: Tokens
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy on labelled tokens, and of the reading head. Padding stands right, so the causal mask alone hides it."""
    outputs = model.model.language_model(inputs_embeds=embeddings, use_cache=False, output_hidden_states=True)
    is_next = tokens.labels[:, 1:] != IGNORED
    logits = model.lm_head(outputs.last_hidden_state[:, :-1][is_next])  # (labelled token, vocabulary)
    answered = nn.functional.cross_entropy(logits.float(), tokens.labels[:, 1:][is_next])
    return answered, reading(outputs.hidden_states[READING_LAYER], tokens)


def _soft_loss(logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weighted = shares * weights
    return -(weighted * logits.float().log_softmax(dim=-1)).sum() / weighted.sum()
