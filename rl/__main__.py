"""`python -m lensgraph.rl COMMAND`: evaluation, trajectories and measurements; `python -m rl` is the same in a clone.

Training is a program of its own, `python -m rl.train`. A new command is one row here and a module with `main(argv)`.

Invariant: `--help` and an unknown command import none of the modules.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from lensgraph.rl.run.jsonl import DamagedLineError
from lensgraph.tools.runtime import output
from lensgraph.tools.safety.one_line import one_line


class Program(NamedTuple):
    """A row of the table."""

    module: str
    """Has `main(argv)`, which returns the exit code."""
    summary: str
    """One sentence for `--help`."""


COMMANDS = {
    "evaluate": Program("lensgraph.rl.evaluation.evaluate", "Run a graph over tasks: accuracy, searches and cost."),
    "compare": Program("lensgraph.rl.evaluation.compare", "Set evaluations side by side, with paired intervals."),
    "reading": Program(
        "lensgraph.rl.evaluation.reading_only", "Measure accuracy when the page with the answer is given."
    ),
    "ceiling": Program("lensgraph.rl.evaluation.ceiling", "Measure what the tools allow, and the fewest searches."),
    "trajectories": Program(
        "lensgraph.rl.evaluation.trajectories.command", "Record, show, count and export trajectories."
    ),
    "balance": Program(
        "lensgraph.rl.evaluation.balance", "Label which tasks need a search, for a balanced training set."
    ),
    "demonstrations": Program(
        "lensgraph.rl.pocket.demonstrations", "Make the cold start's demonstrations with an oracle."
    ),
    "experiments": Program("lensgraph.rl.experiments.command", "Make the runs of the results page, and its tables."),
    "throughput": Program("lensgraph.rl.bench.throughput", "Compare ways to make rollouts, in one run."),
    "model-size": Program("lensgraph.rl.bench.model_size", "Time rollout and update of a size, with random weights."),
}
HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code. 2: bad input, a package is missing, or a file cannot be used."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if not name or name in HELP:
        print(overview())
        return 0 if name else 2
    if name not in COMMANDS:
        print(f"python -m lensgraph.rl: unknown command {name!r}; valid: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        module = import_module(COMMANDS[name].module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "lensgraph":
            raise
        missing = f"{name} needs {error.name}: pip install '.[train]' in a clone of LensGraph"
        print(f"python -m lensgraph.rl: {missing}", file=sys.stderr)
        return 2
    try:
        return output.guarded(f"python -m lensgraph.rl {name}", lambda: int(module.main(rest)))
    except (
        OSError,
        DamagedLineError,
    ) as error:  # a full disk, a folder that is gone, a file of records that is damaged
        print(f"python -m lensgraph.rl {name}: {one_line(error, 1_000)}", file=sys.stderr)
        return 2


def overview() -> str:
    """The help text: every command with its summary."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {row.summary}" for name, row in COMMANDS.items()]
    head = ["usage: python -m lensgraph.rl COMMAND ...", "       python -m lensgraph.rl.train [sight | sft | grpo] ..."]
    return "\n".join([*head, "", *rows, "", "`python -m lensgraph.rl COMMAND --help` prints the options of a command."])


if __name__ == "__main__":
    sys.exit(main())
