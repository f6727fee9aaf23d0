"""Tiny random checkpoints of every family, made from their configurations, with the families' own tokens and templates.

`TINY[model_type](folder)` writes processor and weights. Chat templates are those that TRL ships, or written here after the
published checkpoint's where TRL ships none.
"""

from __future__ import annotations

import functools
import importlib
import json
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


def tokenizer(special: list[str], template: str, **named: Any) -> PreTrainedTokenizerFast:
    """A tokenizer with these control tokens; `named` are those that transformers knows by name."""
    words = Tokenizer.from_str(_words())
    words.add_special_tokens(special)
    made = PreTrainedTokenizerFast(tokenizer_object=words, **named)
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
            if not weight.any():
                weight.normal_(0, 0.1)  # Gemma's eyes begin at zero
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


SIGHT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
"""Sizes of the other families' vision towers: a view of 28 x 28 pixels is 2 x 2 patches."""


def _parts(folder: Path, words: PreTrainedTokenizerFast, pictures: Any, processor: str, **settings: Any) -> None:
    """Write a processor's parts as a checkpoint keeps them."""
    pictures.save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": processor, **settings}))


def _idefics(kind: str, folder: Path) -> None:
    """Pictures are split into views, with a small one of the whole behind them."""
    cells = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    words = tokenizer(
        ["<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>", *cells],
        shipped(kind), bos_token="<|im_start|>" if kind == "smolvlm" else "<|begin_of_text|>",
        eos_token="<end_of_utterance>" if kind == "smolvlm" else "<|end_of_text|>", pad_token="<pad>",
    )  # fmt: skip
    module = importlib.import_module(f"transformers.models.{kind}.image_processing_pil_{kind}")
    name = "SmolVLM" if kind == "smolvlm" else "Idefics3"
    pictures = getattr(module, f"{name}ImageProcessorPil")(
        size={"longest_edge": 56}, max_image_size={"longest_edge": 28}, do_image_splitting=True
    )
    _parts(folder, words, pictures, f"{name}Processor", image_seq_len=1)
    config = transformers.CONFIG_MAPPING[kind](
        vision_config=SIGHT, text_config={"model_type": "llama", **text(words)}, scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"), pad_token_id=words.pad_token_id,
    )  # fmt: skip
    _write(folder, kind, config, words)


def _llava_onevision(folder: Path) -> None:
    """Pictures are views of the best fitting grid, and a small one of the whole before them."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    words = tokenizer(
        ["<|im_start|>", "<|im_end|>", "<image>", "<video>"], ONEVISION, eos_token="<|im_end|>", pad_token="<pad>"
    )
    grid = [[28, 28], [28, 56], [56, 28], [56, 56]]
    pictures = LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, image_grid_pinpoints=grid)
    _parts(
        folder, words, pictures, "LlavaOnevisionProcessor", num_image_tokens=4, vision_feature_select_strategy="full"
    )
    number = words.convert_tokens_to_ids
    config = transformers.CONFIG_MAPPING["llava_onevision"](
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **SIGHT},
        text_config={"model_type": "qwen2", **text(words)}, image_grid_pinpoints=grid, vision_feature_layer=-1,
        vision_feature_select_strategy="full", image_token_id=number("<image>"), video_token_id=number("<video>"),
    )  # fmt: skip
    _write(folder, "llava_onevision", config, words)


ONEVISION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""After the template of llava-onevision-qwen2: pictures first, then texts."""


def _internvl(folder: Path) -> None:
    """Pictures are tiles, and a small one of the whole behind them."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    marks = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = tokenizer(
        ["<|im_start|>", "<|im_end|>"], INTERNVL, eos_token="<|im_end|>", pad_token="<pad>", extra_special_tokens=marks
    )
    pictures = GotOcr2ImageProcessorPil(
        size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    _parts(folder, words, pictures, "InternVLProcessor", image_seq_length=1)
    config = transformers.CONFIG_MAPPING["internvl"](
        vision_config={**SIGHT, "image_size": [28, 28], "patch_size": [14, 14]}, image_seq_length=1,
        text_config={"model_type": "qwen2", **text(words)}, image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )  # fmt: skip
    _write(folder, "internvl", config, words)


INTERNVL = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""After the template of InternVL3-hf."""


def _gemma3(folder: Path) -> None:
    """A picture is one view, read in both directions; most layers see a window of the dialogue only."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    words = tokenizer(
        ["<start_of_turn>", "<end_of_turn>"], shipped("gemma3"), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        extra_special_tokens=marks,
    )  # fmt: skip
    pictures = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    _parts(folder, words, pictures, "Gemma3Processor", image_seq_length=4)
    number = words.convert_tokens_to_ids
    config = transformers.CONFIG_MAPPING["gemma3"](
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **SIGHT}, mm_tokens_per_image=4,
        text_config={
            "model_type": "gemma3_text", **text(words), "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 256, "query_pre_attn_scalar": 16,
        },
        image_token_id=number("<image_soft_token>"), boi_token_id=number("<start_of_image>"),
        eoi_token_id=number("<end_of_image>"),
    )  # fmt: skip
    _write(folder, "gemma3", config, words)


TINY: dict[str, Callable[[Path], None]] = {
    **{kind: functools.partial(_qwen, kind) for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")},
    **{kind: functools.partial(_idefics, kind) for kind in ("smolvlm", "idefics3")},
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
    "gemma3": _gemma3,
}
"""`model_type` -> writes a checkpoint of it into a folder."""
