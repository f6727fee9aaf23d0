"""vLLM's command line for a configuration's policy.

The flags follow vLLM's `serve` (`vllm serve --help=all`), from version 0.11 on. `lensgraph serve` of this version was run with
0.32 on a CPU (`.ci/servers`).
"""

from __future__ import annotations

import json
import shutil
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.limits import context_needed
from lensgraph.agent.nodes.token_budget import PIXELS_PER_TOKEN, tokens_of_picture
from lensgraph.agent.pocket import checkpoint

MIN_PIXELS = 4 * PIXELS_PER_TOKEN
"""Fewest pixels that Qwen2.5-VL's processor takes: thumbnails are not scaled up, as in the papers."""
WIDEST = 4
"""Most GPUs that share one model whose attention heads are not known: the 7B models have 28 query heads and 4 key-value heads."""
NOWHERE = "nowhere.invalid"
"""The only domain that the server may fetch from; it cannot exist. Pictures are sent as bytes, and an address in a request
would be fetched past the guard of this package."""
LOCAL = {"127.0.0.1", "localhost", "::1", "0.0.0.0"}


def command(config: Config, gpus: int, further: Sequence[str] = ()) -> list[str]:
    """vLLM's command line for the policy of a configuration.

    Raises:
        ConfigError: the policy is not served, or its server is not on this machine.
    """
    policy, (host, port) = config.policy, address(config)
    folder = folder_of(config)
    dialect = config.make_dialect()
    flags: list[str] = [
        "--served-model-name", policy.model,
        "--host", host,
        "--port", port,
        "--dtype", "bfloat16",  # some checkpoints say float32, which is twice the memory and no gain
        "--max-model-len", str(context_length(config, dialect)),
        "--limit-mm-per-prompt", json.dumps({"image": sum(pictures(config, dialect)), "video": 0}),
        "--mm-processor-kwargs", json.dumps(picture_size(config)),
        "--allowed-media-domains", NOWHERE,
        "--tensor-parallel-size", str(tensor_parallel(folder, gpus)),
        "--generation-config", "vllm",  # the checkpoint's own sampling defaults would join those of each request
    ]  # fmt: skip
    if dialect.tools:  # the parser of Hermes and Qwen; `--vllm=--tool-call-parser=NAME` gives another
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    return [shutil.which("vllm") or "vllm", "serve", folder, *flags, *further]


def address(config: Config) -> tuple[str, str]:
    """Host and port at which the server of a configuration listens.

    Raises:
        ConfigError: the policy is not served, or its server is not on this machine.
    """
    policy = config.policy
    if policy.kind != "openai_compatible":
        names = "mmsearch_r1, deepmmsearch_prompted, local_vllm"
        raise ConfigError(
            f"policy.kind={policy.kind!r} runs in this process and needs no server; "
            f"give a configuration with openai_compatible, such as --config {names.split(', ')[0]} (ready: {names})."
        )
    where = urllib.parse.urlsplit(policy.base_url)
    if where.hostname not in LOCAL:
        raise ConfigError(f"policy.base_url={policy.base_url!r} is on another machine; run `lensgraph serve` there.")
    return where.hostname or "127.0.0.1", str(where.port or (443 if where.scheme == "https" else 80))


def folder_of(config: Config) -> str:
    """The folder of the policy's checkpoint, or its hub name.

    Raises:
        ConfigError: there is no checkpoint in that folder.
    """
    try:
        return checkpoint(config.policy.model)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error


def context_length(config: Config, dialect: Dialect) -> int:
    """Tokens of the longest allowed dialogue: the first prompt with all its pictures, everything behind it, and one more turn;
    at most the model's own context, if its folder states one.

    Raises:
        ConfigError: one turn may be as long as the model's own context.
    """
    further = tokens_of_picture(config.images.view_pixels) * (sum(pictures(config, dialect)) - 1)
    turn = config.policy.max_new_tokens or 2048
    needed = context_needed(dialect.limits, pictures=further, turn=turn)
    longest = _of_checkpoint(folder_of(config), "max_position_embeddings")
    if longest and turn >= longest:
        raise ConfigError(
            f"policy.max_new_tokens={turn} leaves no room in the {longest} tokens of {config.policy.model}; lower it"
        )
    return min(needed, longest) if longest else needed


def pictures(config: Config, dialect: Dialect) -> tuple[int, int, int]:
    """Number of pictures in the longest allowed dialogue: the question's, thumbnails, crops.

    A turn makes one tool call, unless it calls tools natively, and the last turn none; a crop is cut out for an image search
    or, where the dialect has that action, to look closer."""
    limits = dialect.limits
    turns = limits.turns - 1
    calls = turns if limits.calls is None else limits.calls if dialect.tools else min(turns, limits.calls)
    searches = calls if limits.image is None else min(limits.image, calls)
    crops = calls if dialect.crops else 0 if dialect.thumbnails else searches
    return config.limits.pictures, searches * dialect.image_hits if dialect.thumbnails else 0, crops


def picture_size(config: Config) -> dict[str, int]:
    """Fewest and most pixels of a picture as the model sees it: the checkpoint's own, if its folder states them, and at most
    `images.view_pixels`, to which the agent scales pictures before it sends them."""
    settings = _json(folder_of(config), "preprocessor_config.json")
    size = settings.get("size") or {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or MIN_PIXELS
    most = settings.get("max_pixels") or size.get("longest_edge") or config.images.view_pixels
    return {"min_pixels": least, "max_pixels": max(least, min(most, config.images.view_pixels))}


def tensor_parallel(model: str, gpus: int) -> int:
    """The largest power of two of GPUs that divides the model's attention heads."""
    heads = _of_checkpoint(model, "num_attention_heads")
    size = 1
    while size * 2 <= gpus and (heads % (size * 2) == 0 if heads else size * 2 <= WIDEST):
        size *= 2
    return size


def _of_checkpoint(model: str, name: str) -> int | None:
    """A number in the `config.json` of a checkpoint's folder; None for the name of a hub model."""
    found = _json(model, "config.json")
    number = found.get(name) or (found.get("text_config") or {}).get(name)
    return number if isinstance(number, int) and number > 0 else None


def _json(model: str, name: str) -> dict[str, Any]:
    """A settings file of a checkpoint's folder; empty for the name of a hub model."""
    try:
        return dict(json.loads((Path(model) / name).read_text("utf-8")))
    except (OSError, ValueError):
        return {}
