"""Write a Qwen2.5-VL checkpoint as the two GGUF files that llama.cpp's server takes: the language model, and the vision tower
with its projector (`--model`, `--mmproj`).

llama.cpp's own converter (`convert_hf_to_gguf.py`) needs torch and transformers and comes in no package that its authors
keep; it stops at checkpoints such as the embedded one, whose pictures have one frame, whose vision tower sees the whole
picture in every block, and whose tokenizer it does not know by hash. Names of tensors and keys are those of `gguf`, the
package of llama.cpp's authors; the values are those that their converter writes (`conversion/qwenvl.py`).

Invariant: what llama.cpp would compute differently is refused in one line that names the field. Files appear whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lensgraph.agent.policy.light.processor import chat_template
from lensgraph.agent.policy.light.weights import NetworkShape, read_tensors

Precision = Literal["f32", "bf16", "f16"]
"""Numbers of the weights in the file. Vectors and the patch kernel are always float32, which llama.cpp needs."""
PRETOKENIZERS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    r"\p{N}": "smollm",  # digits one by one, then GPT-2's own pattern
}
"""Pattern of a tokenizer's first split -> llama.cpp's name for it."""
VISION_EPS = 1e-6
"""Epsilon of the tower's norms; transformers writes it into its code, not into a checkpoint."""
WINDOW = 112
"""Side, in pixels, of the windows of llama.cpp's Qwen2.5-VL; 0 for `n_wa_pattern` means that every block sees all."""
IMAGE_SIDE = 560
"""Side that llama.cpp prepares its memory for; pictures have their own sizes."""


def export(folder: Path, out: Path, precision: Precision = "bf16") -> tuple[Path, Path]:
    """Write `model.gguf` and `mmproj.gguf` into a folder, and return their paths.

    Raises:
        OSError: `folder` is no checkpoint of Qwen2.5-VL, or one that llama.cpp would compute differently.
        ImportError: the package `gguf` is not installed.
    """
    shape, tensors = NetworkShape.read(folder), read_tensors(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    with _writer(out / "model.gguf", "qwen2vl", precision) as file:
        _language(file, shape, config["text_config"])
        _tokenizer(file, folder, tensors["decoder.embed_tokens.weight"].shape[0])
        for name, tensor in tensors.items():
            if not name.startswith("vision."):
                file.add(name.replace("decoder.", "model.").replace("head.", "lm_head."), tensor, shape.layers)
    with _writer(out / "mmproj.gguf", "clip", precision) as file:
        _vision(file, folder, shape, config["vision_config"])
        for name, tensor in tensors.items():
            if name.startswith("vision."):
                for part, numbers in _vision_parts(name.replace("vision.", "visual."), tensor):
                    file.add(part, numbers, shape.vision_blocks)
    for name in ("config.json", "preprocessor_config.json"):  # `lensgraph serve` reads sizes there
        shutil.copyfile(folder / name, out / name)
    return out / "model.gguf", out / "mmproj.gguf"


class GGUFFile:
    """One GGUF file that is being written."""

    def __init__(self, path: Path, architecture: str, precision: Precision) -> None:
        import gguf

        self.gguf, self.writer = gguf, gguf.GGUFWriter(path, architecture)
        self.clip = architecture == "clip"
        self.numbers = gguf.GGMLQuantizationType[precision.upper()]
        kind = {"f32": "ALL_F32", "bf16": "MOSTLY_BF16", "f16": "MOSTLY_F16"}[precision]
        self.writer.add_type(gguf.GGUFType.MMPROJ if self.clip else gguf.GGUFType.MODEL)
        self.writer.add_file_type(gguf.LlamaFileType[kind])
        self._names: Any = None

    def add(self, name: str, tensor: np.ndarray, blocks: int) -> None:
        """Add a tensor under llama.cpp's name for the checkpoint's one.

        Raises:
            OSError: llama.cpp knows no tensor of that name.
        """
        gguf = self.gguf
        if self._names is None:
            architecture = gguf.MODEL_ARCH.MMPROJ if self.clip else gguf.MODEL_ARCH.QWEN2VL
            self._names = gguf.get_tensor_name_map(architecture, blocks)
        found = name if name.startswith("v.") else self._names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise OSError(f"tensor {name}: llama.cpp has none of that name in a Qwen2.5-VL")
        numbers = self.numbers if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
        data = np.ascontiguousarray(tensor, dtype=np.float32)
        if numbers is not gguf.GGMLQuantizationType.F32:
            data = gguf.quants.quantize(data, numbers)
        self.writer.add_tensor(found, data, raw_dtype=numbers)


@contextmanager
def _writer(path: Path, architecture: str, precision: Precision) -> Iterator[GGUFFile]:
    part = path.with_name(path.name + ".part")
    file = GGUFFile(part, architecture, precision)
    try:
        yield file
        file.writer.write_header_to_file()
        file.writer.write_kv_data_to_file()
        file.writer.write_tensors_to_file()
    except BaseException:
        file.writer.close()
        part.unlink(missing_ok=True)
        raise
    file.writer.close()
    part.replace(path)


def _language(file: GGUFFile, shape: NetworkShape, text: dict[str, Any]) -> None:
    writer = file.writer
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_rope_freq_base(shape.theta)
    writer.add_rope_dimension_sections([*shape.sections, 0])


def _tokenizer(file: GGUFFile, folder: Path, rows: int) -> None:
    """The tokenizer: its tokens with their kinds, its merges, its chat template; `rows` are those of the embedding."""
    kinds = file.gguf.TokenType
    stored = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    names = {identity: token for token, identity in stored["model"]["vocab"].items()}
    types = dict.fromkeys(names, kinds.NORMAL)
    for token in stored["added_tokens"]:
        names[token["id"]] = token["content"]
        types[token["id"]] = kinds.CONTROL if token["special"] else kinds.USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in stored["model"]["merges"]]
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    writer = file.writer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pretokenizer(folder, stored))
    writer.add_token_list([names.get(identity, f"[PAD{identity}]") for identity in range(rows)])
    writer.add_token_types([types.get(identity, kinds.UNUSED) for identity in range(rows)])
    writer.add_token_merges(merges)
    ids = {token: identity for identity, token in names.items()}
    writer.add_eos_token_id(ids[_text(settings["eos_token"])])
    if settings.get("pad_token"):
        writer.add_pad_token_id(ids[_text(settings["pad_token"])])
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat_template(folder, settings))


def _pretokenizer(folder: Path, stored: dict[str, Any]) -> str:
    """llama.cpp's name of the way in which a tokenizer splits text before it looks for merges.

    Raises:
        OSError: llama.cpp has no such way.
    """
    parts = (stored.get("pre_tokenizer") or {}).get("pretokenizers") or [{}]
    pattern = (parts[0].get("pattern") or {}).get("Regex")
    pattern = r"\p{N}" if parts[0].get("type") == "Digits" and parts[0].get("individual_digits") else pattern
    name = PRETOKENIZERS.get(str(pattern))
    if stored["model"]["type"] != "BPE" or name is None:
        raise OSError(
            f"{folder}: tokenizer.json splits text at {pattern!r}, which is not known here; known: Qwen2, SmolLM"
        )
    return name


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _vision(file: GGUFFile, folder: Path, shape: NetworkShape, vision: dict[str, Any]) -> None:
    pictures = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    writer = file.writer
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(file.gguf.VisionProjectorType.QWEN25VL)
    writer.add_vision_projection_dim(shape.hidden)
    writer.add_vision_image_size(IMAGE_SIDE)
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(shape.vision_hidden)
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(shape.vision_blocks)
    writer.add_vision_head_count(shape.vision_heads)
    writer.add_vision_image_mean(pictures["image_mean"])
    writer.add_vision_image_std(pictures["image_std"])
    writer.add_vision_use_silu(True)
    writer.add_vision_attention_layernorm_eps(VISION_EPS)
    writer.add_vision_n_wa_pattern(_window_pattern(folder, shape, vision))


def _window_pattern(folder: Path, shape: NetworkShape, vision: dict[str, Any]) -> int:
    """Every n-th block sees the whole picture; 0: all do.

    Raises:
        OSError: the blocks or the windows are others than llama.cpp's.
    """
    full = shape.full_attention
    if len(full) == shape.vision_blocks:
        return 0
    step = full[0] + 1 if full else 0
    if not full or list(full) != list(range(step - 1, shape.vision_blocks, step)):
        raise OSError(
            f"{folder}: vision_config.fullatt_block_indexes is {list(full)}, llama.cpp takes every n-th block only"
        )
    if vision["window_size"] != WINDOW:
        raise OSError(f"{folder}: vision_config.window_size is {vision['window_size']}, llama.cpp's is {WINDOW}")
    return step


def _vision_parts(name: str, tensor: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """A tensor of the tower as llama.cpp has it: queries, keys and values apart, a patch kernel for each of two frames."""
    if ".qkv." in name:
        for part, numbers in zip("qkv", np.split(tensor, 3), strict=True):
            yield name.replace("qkv", part), numbers
    elif "patch_embed.proj" in name:
        first = tensor[:, :, 0]
        second = tensor[:, :, 1] if tensor.shape[2] == 2 else np.zeros_like(first)  # a kernel of one frame sees one
        yield "v.patch_embd.weight", first
        yield "v.patch_embd.weight.1", second
    else:
        yield name, tensor
