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

from rl import recipes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 trained, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m rl.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    sft = kinds.add_parser("sft", help="supervised cold start on demonstrations (TRL SFTTrainer)")
    sft.add_argument("--recipe", default="world_sft", help=f"{', '.join(recipes.names())}, or a YAML file")
    sft.add_argument("--resume", action="store_true", help="continue from the last checkpoint in the output folder")
    sft.add_argument("--max-steps", type=int, help="stop after this many steps; the schedule stays the recipe's")
    sft.add_argument("overrides", nargs="*", metavar="key=value", help="replace values of the recipe")
    args = parser.parse_args(argv)
    # nothing here downloads: a model by name must be in the local cache already
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from rl import sft as cold_start  # the training stack loads only once the arguments are known to be good
    except ModuleNotFoundError as error:
        print(f"training needs {error.name}: pip install 'lensgraph[train]'", file=sys.stderr)
        return 2
    try:
        recipe = recipes.read(args.recipe, cold_start.SFTRecipe, args.overrides)
        policy = cold_start.train(recipe, resume=args.resume, max_steps=args.max_steps)
    except (recipes.RecipeError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"policy: {policy}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
