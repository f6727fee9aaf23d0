"""`model-size`: time a rollout and an update of a published model size, with random weights.

    python -m lensgraph.rl model-size --shape 7b

It shows what a machine can do before a checkpoint is downloaded: tokens a second of sampling and of a LoRA
update, seconds, memory, and the share of the machine's own matrix rate (measured in the same run, in the same
precision). Random weights cost as much as trained ones. `--shape pocket` runs on a CPU.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from typing import Any

import torch
import transformers
import trl
from langchain_core.messages import HumanMessage
from peft import LoraConfig, get_peft_model
from rich.console import Console

from lensgraph.agent.errors import UserError
from lensgraph.agent.pocket import WEIGHTS
from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.qwen.decode import Decoder
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.rl.network import checkpointing
from lensgraph.rl.network.collate import Collator
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.tasks import load_tasks

TOWER = {"vision_hidden": 1280, "vision_layers": 32, "vision_heads": 16, "vision_mlp": 3420, "picture_tokens": 576}
SHAPES = {
    "pocket": PocketSize(),
    "3b": PocketSize(hidden=2048, layers=36, heads=16, kv_heads=2, mlp=11008, copying=False, **TOWER),
    "7b": PocketSize(hidden=3584, layers=28, heads=28, kv_heads=4, mlp=18944, copying=False, **TOWER),
}
"""Size by name; 3b and 7b are Qwen2.5-VL's published configurations."""
VOCABULARY = {"pocket": 4096, "3b": 151936, "7b": 152064}
"""Rows of the embedding."""


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, the best of five."""
    size = 8192 if device.type == "cuda" else 1536
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        seconds = _timed(lambda: left @ right, device)
        best = max(best, 2 * size**3 / seconds)
    return best


def measure(shape: str, rollouts: int, new_tokens: int, batch: int) -> dict[str, Any]:
    """One rollout of `rollouts` turns and one update on them in micro-batches of `batch`."""
    size, gpu = SHAPES[shape], torch.cuda.is_available()
    device, dtype = torch.device("cuda" if gpu else "cpu"), torch.bfloat16 if gpu else torch.float32
    processor = load_processor(WEIGHTS)
    processor.image_processor = pocket.build_picture_processor(size)
    torch.set_default_dtype(dtype)
    try:
        with device:
            network = pocket.build_network(processor, size, vocabulary=VOCABULARY[shape]).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    parameters = sum(weight.numel() for weight in network.parameters())
    rate = matrix_rate(device, dtype)
    renderer = Renderer(processor)
    rows = [_row(renderer, task) for task in load_tasks("world/train", rollouts)]
    decoder = Decoder(network, renderer)
    decoder.sample(rows[:1], temperature=1.0, max_new_tokens=2)  # warm-up
    said: list[Any] = []
    sampling = _timed(lambda: said.extend(decoder.sample(rows, temperature=1.0, max_new_tokens=new_tokens)), device)
    sampled = sum(len(turn.ids) for turn in said)
    whole = [
        Rendered(row.ids + turn.ids, [0] * len(row.ids) + [1] * len(turn.ids), row.pixels)
        for row, turn in zip(rows, said, strict=True)
    ]
    every = families.decoder_modules(network, families.PROJECTIONS)
    adapted = get_peft_model(network, LoraConfig(task_type="CAUSAL_LM", target_modules=every, r=16))
    if gpu:
        checkpointing.enable(adapted)
        adapted.enable_input_require_grads()
    optimizer = torch.optim.AdamW([w for w in adapted.parameters() if w.requires_grad], lr=1e-5)
    updating = _timed(lambda: _update(adapted, network, whole, batch, optimizer, renderer), device)
    read = sum(len(row.ids) for row in whole)
    memory = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    # operations a weight and token: 2 forward, 2 backward to the activations, 2 for the second forward of checkpointing
    passes = 6 if gpu else 4
    return {
        "shape": shape,
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
        "parameters": parameters,
        "rollouts": rollouts,
        "rollout_seconds": sampling,
        "sampled_tokens_per_second": sampled / sampling,
        "rollout_share_of_matrix_rate": 2 * parameters * read / sampling / rate,
        "update_seconds": updating,
        "trained_tokens_per_second": read / updating,
        "update_share_of_matrix_rate": passes * parameters * read / updating / rate,
        "matrix_tflops": rate / 1e12,
        "memory_gib": memory / 2**30,
    }


def _row(renderer: Renderer, task: Any) -> Rendered:
    blocks: list[Any] = [{"type": "image", "image": task.pictures()[0]}, {"type": "text", "text": task.question}]
    return renderer.render([HumanMessage(blocks)])


def _update(
    adapted: Any, network: Any, rows: list[Rendered], batch: int, optimizer: torch.optim.Optimizer, renderer: Renderer
) -> None:
    """One policy-gradient step with random advantages of -1 and 1."""
    collate = Collator(network.config, pad=renderer.tokenizer.pad_token_id, max_length=1 << 20)
    rng = random.Random(0)
    adapted.train()
    for start in range(0, len(rows), batch):
        inputs = collate([{"rendered": row} for row in rows[start : start + batch]])
        labels = inputs.pop("labels").to(network.device)
        moved = {
            key: value.to(network.device, network.dtype if value.is_floating_point() else None)
            for key, value in inputs.items()
            if isinstance(value, torch.Tensor)
        }
        hidden = network.model(**moved, use_cache=False).last_hidden_state[:, :-1]
        own = labels[:, 1:] >= 0
        logprobs = torch.log_softmax(network.lm_head(hidden[own]).float(), -1)
        chosen = logprobs.gather(1, labels[:, 1:][own][:, None])
        (-rng.choice((-1.0, 1.0)) * chosen.mean()).backward()
    optimizer.step()
    optimizer.zero_grad()


def _timed(run: Any, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def run(args: argparse.Namespace) -> int:
    """Run the command; 0 done."""
    shape = args.shape or ("7b" if torch.cuda.is_available() else "pocket")
    if shape not in SHAPES:
        raise UserError(f"--shape {shape}: there are {', '.join(SHAPES)}")
    figures = measure(shape, args.rollouts, args.new_tokens, args.batch)
    console = Console()
    for key, value in figures.items():
        console.print(f"{key:32} {value:,.4g}" if isinstance(value, float) else f"{key:32} {value}", highlight=False)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), "utf-8")
    return 0
