"""Build `nano` from nothing: tokenizer, processor and a LLaVA of six million parameters."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

IMAGE_PX = 112  # four times 28: a patch is exactly four by four pixels of a picture of MNIST's size
PATCH_PX = 16
CELL_COUNT = (IMAGE_PX // PATCH_PX) ** 2
VOCABULARY_SIZE = 2000
PAD, IMAGE, ANSWER, END = "<pad>", "<image>", "<|answer|>", "<|end|>"
CONTEXT_TOKENS = 1024

# Text first, then images, so that a prefix cache could hold the words; then the mark that asks for the answer.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}<|answer|>{%- endif -%}
{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'image' -%}<image>{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'assistant' -%}<|end|>{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|answer|>{%- endif -%}"""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learn a byte-level vocabulary: any text encodes, and decodes to itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, IMAGE, ANSWER, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_TOKENS,
        extra_special_tokens={"image_token": IMAGE, "answer_token": ANSWER},
    )


def carry_over(model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Start `model` from an earlier `nano` whose vocabulary may differ: a new word starts as the mean of its old pieces."""
    earlier = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    old_tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    name = "model.language_model.embed_tokens.weight"
    state = earlier.state_dict()
    rows = []
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        known = old_tokenizer.get_vocab().get(token)
        text = tokenizer.decode([index])
        pieces = [known] if known is not None else old_tokenizer(text)["input_ids"]
        rows.append(state[name][pieces].mean(dim=0))
    state[name] = state["lm_head.weight"] = torch.stack(rows)
    model.load_state_dict(state)


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Join the tokenizer to an image processor that scales grey to -1..1."""
    image_processor = SiglipImageProcessorPil(
        size={"height": IMAGE_PX, "width": IMAGE_PX}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """Build the untrained model."""
    torch.manual_seed(seed)
    vision = SiglipVisionConfig(
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        image_size=IMAGE_PX,
        patch_size=PATCH_PX,
        vision_use_head=False,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=CELL_COUNT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.update(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model
