"""Starts vLLM with the flags that a configuration needs, and waits until it answers.

Invariants: the exact command is printed before anything happens; where it cannot run (no vLLM, no GPU) the reason and the
fix are printed and nothing is started; a key travels in the child's environment, never on its command line; the child gets
the signals that this process gets, and this process ends with the child's exit code.

The flags follow vLLM's `serve` (`vllm serve --help=all`), from version 0.11 on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from lensgraph.agent import config as configuration
from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.limits import context_needed
from lensgraph.agent.nodes.token_budget import PIXELS_PER_TOKEN, tokens_of_picture
from lensgraph.tools.safety.redact import without_logins

READY, FAILED, NOT_HERE = 0, 1, 3
"""Exit codes: the server ran and was stopped; it did not start; it cannot run here."""
MIN_PIXELS = 4 * PIXELS_PER_TOKEN
"""Fewest pixels that Qwen2.5-VL's processor takes: thumbnails are not scaled up, as in the papers."""
WIDEST = 4
"""Most GPUs that share one model whose attention heads are not known: the 7B models have 28 query heads and 4 key-value heads."""
NOWHERE = "nowhere.invalid"
"""The only domain that the server may fetch from; it cannot exist. Pictures are sent as bytes, and an address in a request
would be fetched past the guard of this package."""
LOCAL = {"127.0.0.1", "localhost", "::1", "0.0.0.0"}


def main(
    config_file: str | None,
    settings: list[str],
    *,
    gpus: int | None = None,
    wait: float = 900.0,
    further: Sequence[str] = (),
    only_print: bool = False,
) -> int:
    """Print the command, and run it if this machine can; the return value is the exit code."""
    config = configuration.load_config(config_file, settings)
    count = visible_gpus() if gpus is None else gpus
    line = command(config, max(1, count), further)
    print(shlex.join(line), flush=True)
    if only_print:
        return READY
    missing = obstacles(count)
    if missing:
        print("Not started:", file=sys.stderr)
        for problem in missing:
            print(f"  {problem}", file=sys.stderr)
        address = without_logins(config.policy.base_url)
        print(f"On a machine that has both, run the line above; then set policy.base_url={address}", file=sys.stderr)
        return NOT_HERE
    return run(line, config, wait)


def command(config: Config, gpus: int, further: Sequence[str] = ()) -> list[str]:
    """vLLM's command line for the policy of a configuration.

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
    address = urllib.parse.urlsplit(policy.base_url)
    if address.hostname not in LOCAL:
        raise ConfigError(f"policy.base_url={policy.base_url!r} is on another machine; run `lensgraph serve` there.")
    dialect = config.make_dialect()
    flags: list[str] = [
        "--served-model-name", policy.model,
        "--host", address.hostname or "127.0.0.1",
        "--port", str(address.port or (443 if address.scheme == "https" else 80)),
        "--dtype", "bfloat16",  # some checkpoints say float32, which is twice the memory and no gain
        "--max-model-len", str(context_length(config, dialect)),
        "--limit-mm-per-prompt", json.dumps({"image": sum(pictures(config, dialect)), "video": 0}),
        "--mm-processor-kwargs", json.dumps(picture_size(config)),
        "--allowed-media-domains", NOWHERE,
        "--tensor-parallel-size", str(tensor_parallel(policy.model, gpus)),
        "--generation-config", "vllm",  # the checkpoint's own sampling defaults would join those of each request
    ]  # fmt: skip
    if dialect.tools:  # the parser of Hermes and Qwen; `--vllm=--tool-call-parser=NAME` gives another
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    return [shutil.which("vllm") or "vllm", "serve", policy.model, *flags, *further]


def context_length(config: Config, dialect: Dialect) -> int:
    """Tokens of the longest allowed dialogue: the first prompt with all its pictures, everything behind it, and one more turn;
    at most the model's own context, if its folder states one.

    Raises:
        ConfigError: one turn may be as long as the model's own context.
    """
    further = tokens_of_picture(config.images.view_pixels) * (sum(pictures(config, dialect)) - 1)
    turn = config.policy.max_new_tokens or 2048
    needed = context_needed(dialect.limits, pictures=further, turn=turn)
    longest = _of_checkpoint(config.policy.model, "max_position_embeddings")
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
    settings = _json(config.policy.model, "preprocessor_config.json")
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


def visible_gpus() -> int:
    """GPUs that torch sees; CUDA_VISIBLE_DEVICES counts. 0 without torch, which vLLM brings along."""
    if importlib.util.find_spec("torch") is None:
        return 0
    import torch  # a second of importing that `--gpus` saves

    return int(torch.cuda.device_count())


def obstacles(gpus: int) -> list[str]:
    """The reasons why vLLM cannot be started here, each with its fix."""
    found = []
    if shutil.which("vllm") is None:
        found.append('vLLM is not installed: pip install ".[serve]" in a clone of LensGraph (Linux with a GPU)')
    if gpus < 1 and importlib.util.find_spec("torch") is None:
        found.append("GPUs are counted with torch, which is not installed: give --gpus N")
    elif gpus < 1:
        found.append("no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES (--gpus N starts all the same)")
    return found


def run(line: Sequence[str], config: Config, wait: float) -> int:
    """Start the server, wait until it is healthy, stay until it ends."""
    address = urllib.parse.urlsplit(config.policy.base_url)
    health = f"{address.scheme}://{address.netloc.replace('0.0.0.0', '127.0.0.1')}/health"
    environment = dict(os.environ)
    if config.policy.api_key_env and (key := os.environ.get(config.policy.api_key_env)):
        environment["VLLM_API_KEY"] = key
    # A session of its own: a Ctrl-C at the terminal reaches it once, through this process.
    child = subprocess.Popen(line, env=environment, start_new_session=True)
    with _forwarding(child):
        began = time.monotonic()
        while child.poll() is None and not _healthy(health):
            if time.monotonic() - began > wait:
                child.terminate()
                print(f"lensgraph serve: not ready after {wait:g} s (--wait); stopped", file=sys.stderr)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(30)
                    return FAILED
                child.kill()
                return FAILED
            time.sleep(0.2)
        if child.poll() is None:
            print(f"ready after {time.monotonic() - began:.0f} s: {without_logins(config.policy.base_url)}", flush=True)
        code = child.wait()
    if code < 0:  # ended by a signal, as asked
        return 128 - code
    if code:
        print(f"lensgraph serve: vLLM ended with exit code {code}; its last lines say why", file=sys.stderr)
    return code


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


@contextlib.contextmanager
def _forwarding(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Pass SIGINT and SIGTERM to the child, and end after it."""

    def forward(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.terminate()
