"""Seconds that a person waits: whole processes, from the start of the program to its answer, cold and warm.

Cold: nothing has been built yet, so the embedded web's index is built on the way. Warm: the same question again. Each run is
a new process with everything that it loads; a cold run has its own folder for the index.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lensgraph.tools.local.world.questions import splits

COMMAND = (sys.executable, "-m", "lensgraph", "ask")


def main(runs: int, *, as_json: bool) -> int:
    """Measure, print, and return the exit code: 1 if a run gave no answer."""
    try:
        figures = measure(runs)
    except subprocess.CalledProcessError as error:
        print(f"a run ended with exit code {error.returncode}: {error.stderr.strip()[:300]}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(figures))
        return 0
    for kind, seconds in figures.items():
        mean, low, high = statistics.fmean(seconds), min(seconds), max(seconds)
        print(f"{kind:4} ask: {mean:.2f} s on average, {low:.2f} to {high:.2f} ({runs} runs, process start included)")
    return 0


def measure(runs: int) -> dict[str, list[float]]:
    """Seconds of every cold and of every warm run, on a question of the embedded world.

    Raises:
        subprocess.CalledProcessError: a run ended badly.
    """
    task = splits.load_split("validation", "image_text", limit=1)[0]
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "question.png"
        task.render().save(picture)
        for number in range(runs):
            seconds["cold"].append(_ask(picture, task.question, Path(folder) / f"home-{number}"))
        for _ in range(runs):
            seconds["warm"].append(_ask(picture, task.question, Path(folder) / "home-0"))
    return seconds


def _ask(picture: Path, question: str, home: Path) -> float:
    started = time.perf_counter()
    environment = {**os.environ, "LENSGRAPH_HOME": str(home)}
    done = subprocess.run([*COMMAND, str(picture), question], env=environment, capture_output=True, text=True)
    if done.returncode > 1:  # giving up is an answer here: it takes as long
        raise subprocess.CalledProcessError(done.returncode, COMMAND, done.stdout, done.stderr)
    return time.perf_counter() - started
