"""`python -m rl.train`: train a policy by a recipe.

python -m rl.train sft                                 the shipped cold start of the pocket policy
python -m rl.train sft --recipe my.yaml steps=200      a recipe of one's own, with a value replaced
python -m rl.train sft --resume                        go on after an interruption
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rl import recipes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 trained, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m rl.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    stages = {
        "sight": ("world_sight", "the pocket policy's vision tower, on scenes that describe themselves"),
        "sft": ("world_sft", "supervised cold start on demonstrations (TRL SFTTrainer)"),
    }
    for kind, (recipe, help_) in stages.items():
        stage = kinds.add_parser(kind, help=help_)
        stage.add_argument("--recipe", default=recipe, help=f"{', '.join(recipes.names())}, or a YAML file")
        stage.add_argument(
            "--resume", action="store_true", help="continue from the last checkpoint in the output folder"
        )
        stage.add_argument("--max-steps", type=int, help="stop after this many steps; the schedule stays the recipe's")
        stage.add_argument("overrides", nargs="*", metavar="key=value", help="replace values of the recipe")
    args = parser.parse_args(argv)
    # nothing here downloads: a model by name must be in the local cache already
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if args.kind == "sight":
            result = _sight(args)
        else:
            result = _sft(args)
    except ModuleNotFoundError as error:
        print(f"training needs {error.name}: pip install 'lensgraph[train]'", file=sys.stderr)
        return 2
    except (recipes.RecipeError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'vision tower' if args.kind == 'sight' else 'policy'}: {result}")
    return 0


# the training stack loads only once the arguments are known to be good
def _sight(args: argparse.Namespace) -> Path:
    from rl import sight

    recipe = recipes.read(args.recipe, sight.SightRecipe, args.overrides)
    return sight.train(recipe, resume=args.resume, max_steps=args.max_steps)


def _sft(args: argparse.Namespace) -> Path:
    from rl import sft

    recipe = recipes.read(args.recipe, sft.SFTRecipe, args.overrides)
    return sft.train(recipe, resume=args.resume, max_steps=args.max_steps)


if __name__ == "__main__":
    raise SystemExit(main())
