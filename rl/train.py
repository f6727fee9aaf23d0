"""`python -m rl.train`: train a policy by a recipe.

python -m rl.train                                     the quick online run: GRPO from the shipped policy, on a CPU
python -m rl.train grpo --recipe my.yaml steps=200     a recipe of one's own, with a value replaced
python -m rl.train --plan --card 80                    the memory that a recipe needs, by part, on a card of 80 GiB
python -m rl.train grpo --dry-run                      build everything, one batch and its checks; trains nothing
python -m rl.train sft                                 the pocket policy's cold start, and with `--recipe` world_sft_longer and
                                                       world_sft_wary its second and third part
python -m rl.train sight                               its vision tower, which comes first
python -m rl.train --resume                            go on after an interruption; without a stage it is `grpo`
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lensgraph.rl import recipes
from lensgraph.tools.runtime import output
from lensgraph.tools.safety.one_line import one_line

T = TypeVar("T")

STAGES = {
    "sight": ("world_sight", "the pocket policy's vision tower, on scenes that describe themselves"),
    "sft": ("world_sft", "supervised cold start on demonstrations (TRL SFTTrainer)"),
    "grpo": ("world_grpo", "online: GRPO with the graph as the rollout (TRL GRPOTrainer)"),
}
"""Stage -> its shipped recipe and what it is, in the order in which they build on each other."""
DRY = {
    "sight": "four pictures, their labels and the loss",
    "sft": "two rows and their checks",
    "grpo": "everything that a run is built of, one small batch of rollouts, its loss and their checks",
}
"""Stage -> what its dry run does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 trained, 2 bad input."""
    given = list(sys.argv[1:] if argv is None else argv)
    return output.guarded(f"python -m {__spec__.name}", lambda: _run(_parser().parse_args(with_stage(given))))


def _run(args: argparse.Namespace) -> int:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    runs: dict[str, Callable[[argparse.Namespace], Path | None]] = {"sight": _sight, "sft": _sft, "grpo": _grpo}
    try:
        result = runs[args.kind](args)
    except ModuleNotFoundError as error:
        print(f"training needs {error.name}: pip install '.[train]' in a clone of LensGraph", file=sys.stderr)
        return 2
    except (recipes.RecipeError, FileNotFoundError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 2
    if result is not None:
        print(f"{'vision tower' if args.kind == 'sight' else 'policy'}: {result}")
    return 0


def with_stage(argv: Sequence[str]) -> list[str]:
    """The arguments with the default stage before them, where they name none: options and values of a recipe are its."""
    first = argv[0] if argv else ""
    default = not first or (first.startswith("-") and first not in ("-h", "--help")) or "=" in first
    return ["grpo", *argv] if default else list(argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, (recipe, help_) in STAGES.items():
        stage = kinds.add_parser(kind, help=help_)
        stage.add_argument("--recipe", default=recipe, help=f"{', '.join(recipes.names())}, or a YAML file")
        stage.add_argument(
            "--resume", action="store_true", help="continue from the last whole checkpoint in the output folder"
        )
        stage.add_argument("--max-steps", type=int, help="stop after this many steps; the schedule stays the recipe's")
        stage.add_argument("--dry-run", action="store_true", help=f"{DRY[kind]}; trains and writes nothing")
        if kind == "grpo":
            stage.add_argument(
                "--plan", action="store_true", help="print the memory that the recipe needs; loads nothing"
            )
            stage.add_argument("--card", type=float, metavar="GIB", help="with --plan: a GPU of so much memory")
        stage.add_argument("overrides", nargs="*", metavar="key=value", help="replace values of the recipe")
    return parser


# the training stack loads only once the arguments are known to be good
def _sight(args: argparse.Namespace) -> Path | None:
    from lensgraph.rl.pocket import vision_pretraining
    from lensgraph.rl.pocket.vision_recipe import SightRecipe

    recipe = recipes.read(args.recipe, SightRecipe, args.overrides)
    return _told(
        args,
        lambda: vision_pretraining.train(recipe, resume=args.resume, max_steps=args.max_steps, dry_run=args.dry_run),
    )


def _sft(args: argparse.Namespace) -> Path | None:
    from lensgraph.rl.supervised import train_supervised as sft
    from lensgraph.rl.supervised.sft_recipe import SFTRecipe

    recipe = recipes.read(args.recipe, SFTRecipe, args.overrides)
    return _told(args, lambda: sft.train(recipe, resume=args.resume, max_steps=args.max_steps, dry_run=args.dry_run))


def _grpo(args: argparse.Namespace) -> Path | None:
    from lensgraph.rl.grpo.grpo_recipe import GRPORecipe

    recipe = recipes.read(args.recipe, GRPORecipe, args.overrides)
    if args.plan:
        from lensgraph.rl.plan.plan_table import show_plan

        return _told(args, lambda: show_plan(recipe, args.card))
    from lensgraph.rl.grpo import train_online as grpo

    return _told(args, lambda: grpo.train(recipe, resume=args.resume, max_steps=args.max_steps, dry_run=args.dry_run))


def _told(args: argparse.Namespace, run: Callable[[], T]) -> T:
    """Run a stage; what a recipe or its files cause becomes one line."""
    try:
        return run()
    except (FileNotFoundError, FileExistsError):
        raise
    except (ValueError, OSError) as error:
        raise recipes.RecipeError(f"{args.recipe}: {one_line(error, 500, first=True)}") from error


if __name__ == "__main__":
    raise SystemExit(main())
