"""Start the server of a configuration's policy, and wait until it answers.

Invariants: the exact command is printed before anything happens; where it cannot run (no such program, no GPU) the reason and
the fix are printed and nothing is started; a key travels in the child's environment, never on its command line; the child
gets the signals that this process gets, and this process ends with the child's exit code.
"""

from __future__ import annotations

import contextlib
import importlib.util
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

import httpx

from lensgraph.agent import config as configuration
from lensgraph.agent.config import Config
from lensgraph.graphs.program.serving import other_engines, vllm_server
from lensgraph.tools.safety.redact import without_logins

READY, FAILED, NOT_HERE = 0, 1, 3
"""Exit codes: the server ran and was stopped; it did not start; it cannot run here."""


def main(
    config_file: str | None,
    settings: list[str],
    *,
    gpus: int | None = None,
    wait: float = 900.0,
    further: Sequence[str] = (),
    only_print: bool = False,
    engine: str = "vllm",
) -> int:
    """Print the command, and run it if this machine can; the return value is the exit code."""
    config = configuration.load_config(config_file, settings)
    if engine == "vllm":
        count = visible_gpus() if gpus is None else gpus
        line = vllm_server.command(config, max(1, count), further)
    else:
        count, line = 1, other_engines.COMMANDS[engine](config, further)
    print(shlex.join(line), flush=True)
    if only_print:
        return READY
    missing = obstacles(count) if engine == "vllm" else other_engines.obstacles(line[0])
    if missing:
        print("Not started:", file=sys.stderr)
        for problem in missing:
            print(f"  {problem}", file=sys.stderr)
        address = without_logins(config.policy.base_url)
        print(f"On a machine that has both, run the line above; then set policy.base_url={address}", file=sys.stderr)
        return NOT_HERE
    return run(line, config, wait)


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
    if code in (-signal.SIGTERM, -signal.SIGINT):  # as asked
        return 128 - code
    if code:
        print(
            f"lensgraph serve: {Path(line[0]).name} ended with exit code {code}; its last lines say why",
            file=sys.stderr,
        )
    return code if code >= 0 else 128 - code


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
