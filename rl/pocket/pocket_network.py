"""Build the pocket policy: a Qwen2.5-VL network of a few million parameters, and its tokenizer.

Architecture, special tokens, chat template and processor classes are those of Qwen2.5-VL, so code that runs on
the pocket policy runs on the published checkpoints. Besides the sizes two numbers differ on purpose: the vision
tower's temporal patch is 1 (there is no video), and its window spans the whole picture (pictures are small).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.families.own_processor import OwnProcessor
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.rl.pocket.copy_heads import seed_copying

END, PAD = "<|im_end|>", "<|endoftext|>"
SPECIAL = [
    PAD,
    "<|im_start|>",
    END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
"""Qwen2.5-VL's own control tokens."""
TAGS = [
    "<reason>",
    "</reason>",
    "<text_search>",
    "</text_search>",
    "<img_search>",
    "</img_search>",
    "<img>",
    "<answer>",
    "</answer>",
    "<crop>",
    "</crop>",
    "<information>",
    "</information>",
]
"""Tags of the compact dialect, one token each, so that the pocket policy's turns are short."""
TEMPLATE = (
    "{% macro said(content) %}"
    "{% if content is string %}{{ content }}{% else %}{% for block in content %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if block['type'] == 'image' else block['text'] }}"
    "{% endfor %}{% endif %}{% endmacro %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ said(message['content']) + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ said(message['content']) + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Qwen's ChatML without the default system prompt; contents are text, or blocks of text and pictures.

`generation` marks what the policy writes, its end-of-turn token included; a trainer with `assistant_only_loss`
labels that.
"""


class PocketSize(BaseModel):
    """Every number of the network."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    vocabulary: int = Field(default=4096, ge=512)
    """Byte-level BPE entries, control tokens and tags included."""
    hidden: int = 192
    """Width of the language model."""
    layers: int = 6
    """Decoder layers."""
    heads: int = 3
    """Query heads."""
    kv_heads: int = 3
    """Key-value heads."""
    mlp: int = 512
    """Inner width of the decoder's MLP."""
    vision_hidden: int = 192
    """Width of the vision tower."""
    vision_layers: int = 4
    """Blocks of the vision tower."""
    vision_heads: int = 6
    """Heads of the vision tower."""
    vision_mlp: int = 512
    """Inner width of the vision tower's MLP."""
    picture_tokens: int = 30
    """Most visual tokens of a picture; each covers 28 x 28 pixels."""
    copying: bool = True
    """Start with a copying circuit (`lensgraph.rl.pocket.copy_heads`); False starts at random."""
    context: int = 4096
    """Positions of the rotary embedding."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with Qwen's control tokens. Every digit is a token, so numbers are
    copied by digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL) - len(TAGS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, padding_side="left")
    fast.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    fast.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    fast.chat_template = TEMPLATE
    return fast


def build_processor(tokenizer: PreTrainedTokenizerFast, size: PocketSize) -> PictureProcessor:
    """Tokenizer and picture processor as one, without torchvision."""
    pictures = build_picture_processor(size)
    return PictureProcessor(image_processor=pictures, tokenizer=tokenizer, chat_template=TEMPLATE)


def build_picture_processor(size: PocketSize) -> Qwen2VLImageProcessorPil:
    """A processor that scales pictures to between a half and all of `size.picture_tokens` tokens."""
    return Qwen2VLImageProcessorPil(
        patch_size=14,
        merge_size=2,
        temporal_patch_size=1,
        min_pixels=28 * 28 * max(4, size.picture_tokens // 2),
        max_pixels=28 * 28 * size.picture_tokens,
    )


def vision_config(size: PocketSize) -> Qwen2_5_VLVisionConfig:
    """The vision tower's configuration."""
    return Qwen2_5_VLVisionConfig(
        depth=size.vision_layers,
        hidden_size=size.vision_hidden,
        intermediate_size=size.vision_mlp,
        num_heads=size.vision_heads,
        out_hidden_size=size.hidden,
        patch_size=14,
        spatial_merge_size=2,
        temporal_patch_size=1,
        window_size=28 * size.picture_tokens,
        fullatt_block_indexes=list(range(size.vision_layers)),
    )


def build_network(
    processor: PictureProcessor, size: PocketSize, *, seed: int = 0, vocabulary: int | None = None
) -> Qwen2_5_VLForConditionalGeneration:
    """A new network for `processor`'s tokenizer, in torch's default precision and on its default device.

    `vocabulary`: rows of the embedding; None: as many as the tokenizer has entries.
    """
    torch.manual_seed(seed)
    tokenizer = processor.tokenizer
    token = tokenizer.convert_tokens_to_ids
    quarter = size.hidden // size.heads // 4
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary or len(tokenizer),
            "hidden_size": size.hidden,
            "intermediate_size": size.mlp,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "max_position_embeddings": size.context,
            "tie_word_embeddings": True,
            # time, height and width share half of the head's width, as 16:24:24 does at 128
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [
                    quarter // 2,
                    (quarter * 2 - quarter // 2) // 2,
                    (quarter * 2 - quarter // 2 + 1) // 2,
                ],
                "rope_theta": 10000.0,
            },
            "eos_token_id": token(END),
            "pad_token_id": token(PAD),
            "bos_token_id": None,
        },
        vision_config=vision_config(size).to_dict(),
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    network = Qwen2_5_VLForConditionalGeneration(config)
    if size.copying:
        seed_copying(network, seed=seed)
    network.generation_config.eos_token_id = token(END)
    network.generation_config.pad_token_id = token(PAD)
    return network


def save(network: Any, processor: PictureProcessor | OwnProcessor, folder: Path) -> None:
    """Write a checkpoint folder that `TransformersPolicy(model=folder)` loads. Weights go in bfloat16, adapters merged."""
    folder.mkdir(parents=True, exist_ok=True)
    network.config.vision_config._name_or_path = ""  # else the folder that the tower was loaded from
    tied = network.config.tie_word_embeddings
    weights = {
        name: tensor.detach().to("cpu", torch.bfloat16)
        for name, tensor in merged(network).items()
        if not (tied and name.startswith("lm_head."))  # the embeddings again
    }
    network.save_pretrained(folder, state_dict=weights, max_shard_size="15MB")
    if isinstance(processor, OwnProcessor):
        processor.save(folder)
        return
    processor.tokenizer.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)


def merged(network: Any) -> dict[str, torch.Tensor]:
    """The weights of a network under the names that they have without peft's layers; those stay as they are."""
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in network.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in network.named_modules():
        for adapter in getattr(layer, "active_adapters", ()) if hasattr(layer, "get_delta_weight") else ():
            weights[f"{name}.weight"] = weights[f"{name}.weight"] + layer.get_delta_weight(adapter)
    return weights


def load_network(folder: Path) -> Any:
    """The network of a checkpoint folder, float32, to train on.

    Raises:
        FileNotFoundError: there is no checkpoint in that folder.
        ValueError: it is of no family, or its weights are not whole.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json there; give a folder that 'python -m lensgraph.rl.train sft' wrote"
        )
    return families.load_network(folder, torch.float32)


def restore(network: torch.nn.Module, folder: Path) -> bool:
    """Load a checkpoint's weights into `network`. False: the folder holds an adapter, and nothing was loaded.

    transformers saves this family under older weight names, which only `from_pretrained` translates: its trainer's own
    loading would find none of them, warn, and train fresh weights. An adapter's names need no translation.
    """
    whole = (folder / "config.json").is_file()
    if whole:
        network.load_state_dict(load_network(folder).state_dict())
    return whole


def graft(network: Qwen2_5_VLForConditionalGeneration, tower: Path) -> None:
    """Put a trained vision tower (`python -m lensgraph.rl.train sight`) into `network`, in place of its own.

    Raises:
        FileNotFoundError: there is no tower in that folder.
        ValueError: it speaks to a language model of another width.
    """
    eyes = load_tower(tower)
    width = network.config.text_config.hidden_size
    if eyes.config.out_hidden_size != width:
        raise ValueError(f"sight={tower}: its tokens are {eyes.config.out_hidden_size} wide, the network's {width}")
    network.model.visual = eyes
    network.config.vision_config = eyes.config
    network.model.config.vision_config = eyes.config


def load_tower(folder: Path) -> Qwen2_5_VisionTransformerPretrainedModel:
    """A vision tower that `python -m lensgraph.rl.train sight` wrote, float32.

    Raises:
        FileNotFoundError: there is none in that folder.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"sight={folder}: no tower there; give a folder that 'python -m lensgraph.rl.train sight' wrote"
        )
    tower = families.load_whole(Qwen2_5_VisionTransformerPretrainedModel, folder, torch.float32)
    assert isinstance(tower, Qwen2_5_VisionTransformerPretrainedModel)
    return tower


def pieces(tokenizer: PreTrainedTokenizerFast) -> tuple[str, ...]:
    """The tokens of a vocabulary that are letters only, without their leading space, each once."""
    texts = {tokenizer.decode([number]).strip() for number in range(len(tokenizer))}
    return tuple(sorted(text for text in texts if text.isalpha()))
