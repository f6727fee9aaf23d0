"""Refuse an engine that is not there, before anything is loaded."""

from __future__ import annotations

import urllib.error
import urllib.request
from importlib import metadata
from importlib.util import find_spec

from packaging.version import Version
from trl import GRPOConfig

from lensgraph.tools.safety.one_line import one_line

LOWEST, BEYOND = Version("0.22"), Version("0.32")
"""Versions of vLLM that TRL 1.16 speaks with: from the first up to, but not with, the second."""
SECONDS = 5.0
"""A server that is ready answers within 5 seconds."""


def check(arguments: GRPOConfig) -> None:
    """Refuse what is not installed or does not answer.

    Raises:
        ValueError: the message is one line with the install, or the address.
    """
    if not arguments.use_vllm:
        return
    if arguments.vllm_mode == "server":
        _answers(arguments.vllm_server_base_url or f"http://{arguments.vllm_server_host}:{arguments.vllm_server_port}")
    if find_spec("vllm") is None:
        raise ValueError(
            f"vllm={arguments.vllm_mode}: vLLM is not installed here; pip install '.[train-vllm]' in a clone of LensGraph, on "
            "Linux with a GPU, or sample without it (vllm=off)"
        )

    version = Version(Version(metadata.version("vllm")).base_version)
    if not LOWEST <= version < BEYOND:
        raise ValueError(
            f"vllm={arguments.vllm_mode}: vLLM {version} is installed, and TRL 1.16 speaks with {LOWEST} up to, but not with, "
            f"{BEYOND}, which names the sampled tokens otherwise; pip install '.[train-vllm]' in a clone of LensGraph"
        )


def _answers(url: str) -> None:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=SECONDS):
            pass
    except urllib.error.HTTPError:
        return  # it answers
    except (OSError, ValueError) as error:
        raise ValueError(
            f"vllm=server: no server answers at {url} ({one_line(error)}); start one with 'vllm serve', or sample without "
            "it (vllm=off)"
        ) from error
