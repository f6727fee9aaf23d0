"""Tiny random checkpoints of every family, made from their configurations, with the families' own tokens and templates.

`TINY[model_type](folder)` writes processor and weights. Chat templates are those that TRL ships, or written here after the
published checkpoint's where TRL ships none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from lensgraph.agent.dialects.table import DIALECTS, build
from lensgraph.agent.policy.families.table import FAMILIES

VOCABULARY = 900
QWEN = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


@functools.cache
def _words() -> str:
    """A byte-level vocabulary of the dialects' prompts, so that dialogues are short."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    learn = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator([text for name in DIALECTS for text in build(name).prompts.values()], learn)
    return str(made.to_str())


def tokenizer(special: list[str], template: str, **named: str) -> PreTrainedTokenizerFast:
    """A tokenizer with these control tokens; `named` are those that transformers knows by name."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_words()), additional_special_tokens=special, **named
    )
    made.chat_template = template
    return made


def shipped(name: str) -> str:
    """A chat template that TRL ships."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text("utf-8")


def text(words: PreTrainedTokenizerFast, **more: Any) -> dict[str, Any]:
    """Sizes of the language model."""
    return {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(words), "max_position_embeddings": 8192,
        "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id, **more,
    }  # fmt: skip


def _write(folder: Path, kind: str, config: PretrainedConfig, words: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    network = getattr(transformers, FAMILIES[kind].network)(config)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "norm" not in name:
                weight.mul_(3.0)  # large enough that a picture changes what is said
    network.generation_config.eos_token_id = words.eos_token_id
    network.save_pretrained(folder)


def _qwen(kind: str, folder: Path) -> None:
    words = tokenizer(
        QWEN[1:], shipped("qwen3_vl" if "3" in kind else "qwen2_5_vl"), eos_token="<|im_end|>", pad_token=QWEN[0]
    )
    number, patch = words.convert_tokens_to_ids, 16 if "3" in kind else 14
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    if "3" in kind:
        rope["mrope_interleaved"] = True
    decoder = text(words, rope_parameters=rope)
    if kind == "qwen3_vl_moe":
        decoder |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 48,
        "out_hidden_size": 32,
        "patch_size": patch,
    }
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "mlp_ratio": 2}
    if kind == "qwen2_5_vl":
        vision |= {"window_size": 56, "fullatt_block_indexes": [1]}
    if "3" in kind:
        vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16}
    config = transformers.CONFIG_MAPPING[kind](
        text_config=decoder, vision_config=vision, image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"), vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"), tie_word_embeddings=kind == "qwen3_vl",
    )  # fmt: skip
    Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": (2 * patch) ** 2, "longest_edge": 6 * (2 * patch) ** 2}
    ).save_pretrained(folder)
    words.save_pretrained(folder)
    _write(folder, kind, config, words)


TINY: dict[str, Callable[[Path], None]] = {
    kind: functools.partial(_qwen, kind) for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
}
"""`model_type` -> writes a checkpoint of it into a folder."""
