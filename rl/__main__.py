"""`python -m lensgraph.rl COMMAND`: evaluation, trajectories and measurements; `python -m rl` is the same in a clone.

Training is a program of its own, `python -m rl.train`. A new command is one row here and one function, which takes the parsed
options and returns the exit code: 0 done, 1 what was run failed, 2 bad input or a package is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lensgraph.agent.errors import UserError
from lensgraph.graphs.program.command_line import Command, Program, option
from lensgraph.tools.runtime import output


def _share(text: str) -> float | str:
    return text if text == "paper" else float(text)


def _concurrent(number: int, what: str) -> tuple[tuple[str, ...], dict[str, object]]:
    return option("--concurrent", type=int, default=number, help=f"{what} at a time")


_SETTINGS = (
    option("--config", type=Path, help="a configuration file"),
    option("overrides", nargs="*", metavar="key=value", help="settings, such as policy.model=FOLDER"),
)
_GRAPH = option("--graph", default="search_agent", help="a graph's name, or package.module:attribute of a compiled one")
_SPLIT = option("--split", default="test", help="train, validation or test")
_TEST, _TRAIN = (
    option("--tasks", default=name, help="a task set's name or a .jsonl file") for name in ("world/test", "world/train")
)
_FIRST = option("--limit", type=int, help="the first so many tasks")
_TEMPERATURE = option("--temperature", type=float, default=1.0, help="of the sampling")
_FAILED = option(
    "--max-failed-share", type=float, default=0.2,
    help="end if a larger share fails for no fault of the policy (a tool, a server), and say what failed",
)  # fmt: skip
_FIGURES = option("--json", type=Path, help="write the figures here")
_TABLE = option("--markdown", type=Path, help="write the table here")
_SEARCH_FREE = option(
    "--search-free", type=_share, nargs="?", const="paper", metavar="SHARE",
    help="also tables in which this share of questions needs no search; `paper`, or no value: the paper's training mix",
)  # fmt: skip
_PLAN = (
    option("--plan", type=Path, help="the experiments, a YAML file; the one of the results page, unless given"),
    option("--folder", type=Path, default=Path("runs/experiments"), help="where runs are kept"),
)
_FOLDER = option("folder", type=Path, help="the store")
_POLICY = option("--policy", help="only trajectories of the policies whose name begins so")

_EVALUATION, _BENCH = "lensgraph.rl.evaluation", "lensgraph.rl.bench"
_TRAJECTORIES, _EXPERIMENTS = "lensgraph.rl.evaluation.trajectories.command", "lensgraph.rl.experiments.command"

COMMANDS = {
    "evaluate": Command(
        f"{_EVALUATION}.evaluate:run", "Run a graph over tasks: accuracy, searches and cost.",
        (
            _GRAPH, _TEST, option("--family", help="only this family"), _FIRST, _FIGURES, _TABLE,
            option("--plot", type=Path, help="draw accuracy and searches by family here (needs lensgraph[train])"),
            option("--records", type=Path, help="append every question here, and go on from it"),
            _concurrent(32, "questions"), _FAILED, *_SETTINGS,
        ),
    ),
    "compare": Command(
        f"{_EVALUATION}.compare:run", "Set evaluations side by side, with paired intervals.",
        (
            option("runs", nargs="+", metavar="NAME=FILE", help="records; others are compared with the first"),
            _FIGURES, _TABLE, option("--plot", type=Path, help="draw accuracy against searches here"), _SEARCH_FREE,
        ),
    ),
    "servers": Command(
        f"{_BENCH}.compare_servers:run", "Compare a policy in this process with model servers that serve it.",
        (
            option("urls", nargs="+", metavar="URL", help="address, /v1 included; URL#NAME if the model has another name"),
            _TEST, option("--limit", type=int, default=96, help="the first so many tasks (96)"),
            option("--least", type=float, default=0.85, help="smallest share of equal answers that is right (0.85)"),
            option("--context", type=int, default=4096, help="the servers' context in tokens (4096); 0: it is not outgrown"),
            _concurrent(8, "questions"), _FIGURES, option("--config", type=Path, help="a configuration file"),
            option("--set", dest="overrides", action="append", default=[], metavar="key=value", help="a setting"),
        ),
    ),
    "reading": Command(
        f"{_EVALUATION}.reading_only:run", "Measure accuracy when the page with the answer is given.",
        (
            _SPLIT, option("--limit", type=int, help="the first so many tasks of each family that reads"),
            _FIGURES, *_SETTINGS,
        ),
    ),
    "ceiling": Command(
        f"{_EVALUATION}.ceiling:run", "Measure what the tools allow, and the fewest searches.",
        (
            _SPLIT,
            option("--limit", type=int, help="the first so many tasks of each searching family; no others"),
            option("--first", type=int, help="the first so many tasks of the split, whatever their family"),
            option("--frugal", action="store_true", help="ask in the page's own words at once"),
            option(
                "--accuracy", type=float, nargs="+", default=[],
                help="also the fewest searches with which so many are right",
            ),
            _FIGURES,
            option("--records", type=Path, help="write the runs here, for python -m lensgraph.rl compare"),
        ),
    ),
    "trajectories record": Command(
        f"{_TRAJECTORIES}:record", "Run a policy over tasks and keep every trajectory.",
        (
            option("--out", type=Path, required=True, dest="folder", help="the store; goes on from it"),
            _GRAPH, _TRAIN, _FIRST, option("--rollouts", type=int, default=1, help="trajectories of each task"),
            _TEMPERATURE, _concurrent(32, "episodes"),
            option("--recipe", default="world_grpo", help="the online recipe whose reward the episodes get"),
            *_SETTINGS,
        ),
    ),
    "trajectories show": Command(
        f"{_TRAJECTORIES}:show", "Read one trajectory.",
        (_FOLDER, option("id", nargs="?", help="its id; left out: the last one"), _POLICY),
    ),
    "trajectories stats": Command(
        f"{_TRAJECTORIES}:stats", "Count trajectories, by node and decision.",
        (_FOLDER, _POLICY, option("--json", action="store_true", help="print one JSON object")),
    ),
    "trajectories export": Command(
        f"{_TRAJECTORIES}:export", "Make training data for SFTTrainer.",
        (
            _FOLDER,
            option("out", type=Path, help="a .jsonl file (its pictures stay beside it) or a folder"),
            _POLICY,
            option("--right", action="store_true", help="only episodes with a right answer"),
        ),
    ),
    "balance": Command(
        f"{_EVALUATION}.balance:run", "Label which tasks need a search, for a balanced training set.",
        (
            option("--out", type=Path, required=True, help="labels, one JSON object a task; goes on from it"),
            _TRAIN,
            option("--limit", type=int, default=600, help="the first so many tasks"),
            option("--rollouts", type=int, default=8, help="episodes of each task"),
            option(
                "--rephrase-share", type=float, default=0.5,
                help="share of a task's rollouts in other words, as in the online recipe; 0: the task's own wording only",
            ),
            _TEMPERATURE, _concurrent(64, "episodes"), _FAILED, *_SETTINGS,
        ),
    ),
    "demonstrations": Command(
        "lensgraph.rl.pocket.demonstrations:run", "Make the cold start's demonstrations with an oracle.",
        (
            option("--out", type=Path, default=Path("runs/world_sft/demonstrations.jsonl"), help="goes on from it"),
            option("--share", type=float, default=1.0, help="of the default number of runs, for a quick look"),
            _concurrent(4, "runs"),
        ),
    ),
    "experiments run": Command(
        f"{_EXPERIMENTS}:run", "Train and evaluate what the plan of the results page still misses.",
        (
            *_PLAN,
            option("--only", nargs="*", default=[], help="names of experiments"),
            option("--seeds", nargs="*", type=int, default=[], help="instead of the plan's"),
            option("--jobs", type=int, default=1, help="runs at a time"),
        ),
    ),
    "experiments table": Command(
        f"{_EXPERIMENTS}:table", "Print the tables of the results page.",
        (
            *_PLAN,
            option("--out", type=Path, help="write figures.json and curve.png here, and the tables into README.md"), _SEARCH_FREE,
        ),
    ),
    "throughput": Command(
        f"{_BENCH}.throughput:run", "Compare ways to make rollouts, in one run.",
        (
            option("--policy", default="pocket", help="a checkpoint"),
            _TRAIN,
            option("--limit", type=int, default=8, help="tasks"),
            option("--generations", type=int, default=8, help="episodes of each task, all at once"),
            option("--concurrent", type=int, nargs="+", help="episodes at a time; all, unless given"),
            option("--ways", nargs="+", default=[], help="beside `graph`, which is always measured; all, unless given"),
            option("--rounds", type=int, default=3, help="rounds of every way, after one to warm up"),
            option("--slow", type=float, nargs=2, default=(0.05, 0.5), help="bounds of the slower tools, seconds"),
            option("--max-new-tokens", type=int, default=64, help="of one turn"),
            _FIGURES, _TABLE,
        ),
    ),
    "model-size": Command(
        f"{_BENCH}.model_size:run", "Time rollout and update of a size, with random weights.",
        (
            option("--shape", help="pocket or 7b; 7b where there is a GPU, unless given"),
            option("--rollouts", type=int, default=16, help="turns sampled together"),
            option("--new-tokens", type=int, default=128, help="of every turn, at most"),
            option("--batch", type=int, default=4, help="rows in one forward and backward pass"),
            _FIGURES,
        ),
    ),
}  # fmt: skip
"""Name -> command, in the order of `--help`."""

PROGRAM = Program(
    "python -m lensgraph.rl", COMMANDS, extra="train", reported=(UserError, OSError), guided=True,
    also="python -m lensgraph.rl.train [sight | sft | grpo] ...",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    given = sys.argv[1:] if argv is None else argv
    return output.guarded(PROGRAM.name, lambda: PROGRAM.run(given))


if __name__ == "__main__":
    sys.exit(main())
