"""The memory that a run needs on each device, by part.

Every device holds the whole network: the samplers of this package read its weights in place. Sampling and updating take turns,
so the larger of the two counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from lensgraph.agent.errors import UserError
from lensgraph.agent.policy.families import table as families
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.plan.saved import saved_per_token
from lensgraph.rl.plan.shapes import adapter_size, load_shape, size, vision_size

Phase = Literal["always", "sampling", "updating"]
ENGINE_SHARE = 0.3
"""Share of the device that TRL gives a colocated vLLM (`vllm_gpu_memory_utilization`)."""
RUNTIME = 1.0 * 2**30
"""Bytes of the CUDA context and of the allocator's gaps. An estimate: they differ by driver and by run."""
TILE = (4096, 32768)
"""Tokens and words of a tile of logits: TRL scores tokens in tiles and never holds all logits."""
COPIES = {True: 2, False: 8}
"""Copies of a tile at one time, in float32: on a GPU, where one kernel folds it, and on a CPU (measured there)."""
PASSING = 1.3
"""Share of what is kept for the backward pass that comes and goes beside it, on a CPU (measured there)."""


@dataclass(frozen=True)
class Part:
    """A part of the memory of one device."""

    name: str
    """The part, in the field's words."""
    bytes: float
    """Its bytes."""
    why: str
    """The numbers that it is made of."""
    phase: Phase = "always"
    """The phase of a step in which it is there."""


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a run on one device."""

    parts: list[Part]
    """In the order in which they come to be."""

    @property
    def bytes(self) -> float:
        """The most at one time."""
        phases = {phase: sum(part.bytes for part in self.parts if part.phase == phase) for phase in Phase.__args__}  # type: ignore[attr-defined]
        return phases["always"] + max(phases["sampling"], phases["updating"])


def memory_plan(recipe: GRPORecipe, card: float, *, gpu: bool = True) -> MemoryPlan:
    """The plan of a recipe on a device of `card` bytes; `gpu`: bfloat16 by autocast and gradient checkpointing, as our trainer
    sets them there.

    Raises:
        UserError: there is no configuration of the model, or the recipe gives no `max_tokens`, which the rows' memory follows.
    """
    if recipe.max_tokens is None:
        raise UserError("max_tokens: none, so the memory of a row has no bound; give one to plan")
    frozen = recipe.lora is not None
    kind, wide = (torch.bfloat16, 2) if gpu else (torch.float32, 4)
    network = load_shape(recipe.start_from, kind)
    whole = size(network.parameters())
    weight = wide if frozen else 4
    if frozen:
        options = {"target_modules": families.decoder_modules(network, families.ATTENTION), **(recipe.lora or {})}
        trained, said = adapter_size(network, options), f"LoRA of rank {options.get('r', 8)}"
    else:
        trained = whole - (vision_size(network) if recipe.freeze_vision else 0)
        said = "all but the vision tower" if recipe.freeze_vision else "all weights"
    parts = [
        Part("weights", whole * weight, f"{whole:,} parameters, {weight} bytes each"),
        *([Part("adapter", 4 * trained, f"{said}: {trained:,} parameters in float32")] if frozen else []),
        Part("gradients", 4 * trained, f"{said}, float32"),
        Part("optimizer", 8 * trained, "AdamW: two moments in float32"),
    ]
    if recipe.beta > 0 and not frozen:
        parts.append(Part("reference", 4 * whole, f"beta={recipe.beta:g}: the policy of the start, float32"))
    parts += _sampling(recipe, network, card, wide, gpu=gpu)
    parts += _updating(recipe, network, kind, frozen=frozen, gpu=gpu, trained=trained)
    return MemoryPlan([*parts, *([Part("runtime", RUNTIME, "CUDA's context and gaps, an estimate")] if gpu else [])])


def _sampling(recipe: GRPORecipe, network: Any, card: float, wide: int, *, gpu: bool) -> list[Part]:
    assert recipe.max_tokens is not None
    if recipe.vllm == "server":
        return []
    if recipe.vllm == "colocate":
        return [Part("engine", ENGINE_SHARE * card, f"vLLM takes {ENGINE_SHARE:.0%} of the device, and keeps it")]
    text = network.config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    each = 2 * text.num_hidden_layers * heads * head * wide
    rows = min(recipe.concurrent, recipe.prompts * recipe.generations)
    kept = min(recipe.reuse_bytes, each * recipe.max_tokens * rows)
    return [
        Part("KV cache", each * recipe.max_tokens * rows, f"{rows} episodes of {recipe.max_tokens:,} tokens", "sampling"),
        Part("KV of earlier turns", kept, f"at most reuse_bytes={recipe.reuse_bytes:,}", "sampling"),
    ]  # fmt: skip


def _updating(
    recipe: GRPORecipe, network: Any, kind: torch.dtype, *, frozen: bool, gpu: bool, trained: int
) -> list[Part]:
    assert recipe.max_tokens is not None
    text = network.config.get_text_config()
    tokens = recipe.batch * recipe.max_tokens
    saved = saved_per_token(network, kind) * tokens
    said = f"{recipe.batch} rows of {recipe.max_tokens:,} tokens"
    parts = []
    if gpu:
        layers = text.num_hidden_layers
        borders = layers * tokens * text.hidden_size * (2 if frozen else 4)
        parts.append(
            Part("activations", borders + 2 * saved / layers, f"{said}, checkpointed: one layer at a time", "updating")
        )
        if not frozen:
            parts.append(Part("bfloat16 copies", 2 * trained, "autocast keeps each weight's", "updating"))
    else:
        parts.append(Part("activations", PASSING * saved, f"{said}, all layers", "updating"))
    words = min(TILE[1], text.vocab_size)
    tile = COPIES[gpu] * 4 * min(TILE[0], tokens) * words
    head = 4 * text.hidden_size * (tokens + (0 if frozen else text.vocab_size))
    said = f"{min(TILE[0], tokens):,} x {words:,}, {COPIES[gpu]} copies; gradients of states{'' if frozen else ' and matrix'}"
    return [*parts, Part("a tile of logits", tile + head, said, "updating")]
