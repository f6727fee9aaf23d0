"""Command lines of llama.cpp's server and of `transformers serve` for a configuration's policy.

Checked by running both (`.ci/servers`): llama.cpp of 2026-10, transformers 5.19.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lensgraph.agent.config import Config, ConfigError
from lensgraph.agent.nodes.token_budget import PIXELS_PER_TOKEN
from lensgraph.graphs.program.serving.vllm_server import address, context_length, folder_of, picture_size

AT_ONCE = 4
"""Requests that llama.cpp serves at once, each with a whole context; further ones wait."""
INSTALLS = {
    "llama-server": "llama.cpp's server is not installed: put llama-server on the path",
    "transformers": 'transformers is not installed: pip install "transformers[serving]" accelerate torchvision',
}


def llama_cpp(config: Config, further: Sequence[str] = ()) -> list[str]:
    """llama.cpp's command line; `policy.model` is a folder that `lensgraph export gguf` wrote.

    Raises:
        ConfigError: the policy is not served here, or the folder holds no GGUF files.
    """
    host, port = address(config)
    folder, size = Path(config.policy.model), picture_size(config)
    if not (folder / "model.gguf").is_file():
        raise ConfigError(
            f"policy.model={config.policy.model!r}: no model.gguf in that folder; "
            "make it with `lensgraph export gguf CHECKPOINT --out FOLDER`"
        )
    return [
        _program("llama-server"), "--model", str(folder / "model.gguf"), "--mmproj", str(folder / "mmproj.gguf"),
        "--alias", config.policy.model, "--host", host, "--port", port,
        "--ctx-size", str(AT_ONCE * context_length(config, config.make_dialect())), "--parallel", str(AT_ONCE),
        "--image-min-tokens", str(-(-size["min_pixels"] // PIXELS_PER_TOKEN)),
        "--image-max-tokens", str(size["max_pixels"] // PIXELS_PER_TOKEN),
        "--reasoning-format", "none",  # what the policy thinks is part of its turn
        "--jinja", *further,
    ]  # fmt: skip


def transformers(config: Config, further: Sequence[str] = ()) -> list[str]:
    """The command line of `transformers serve`, which takes the model by its folder or hub name.

    Raises:
        ConfigError: the policy is not served here, or there is no checkpoint in that folder.
    """
    host, port = address(config)
    return [_program("transformers"), "serve", "--host", host, "--port", port, *further, folder_of(config)]


def obstacles(program: str) -> list[str]:
    """The reason why a program cannot be started here, with its fix; empty: it can."""
    return [] if shutil.which(program) else [INSTALLS[Path(program).name]]


def _program(name: str) -> str:
    return shutil.which(name) or name


COMMANDS: dict[str, Callable[[Config, Sequence[str]], list[str]]] = {
    "llama_cpp": llama_cpp,
    "transformers": transformers,
}
"""Engine -> its command line."""
