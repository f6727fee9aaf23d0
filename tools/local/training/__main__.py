"""`python -m lensgraph.tools.local.training fit` (or `head`): remake the weights of the embedder.

Both programs need torch, so they are imported when they are named, and a missing package costs one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

PROGRAMS = ("fit", "head")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a program; 0 done, 2 it is unknown or a package is missing."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    prog = "python -m lensgraph.tools.local.training"
    if name not in PROGRAMS:
        print(f"{prog}: unknown program {name!r}; valid: {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    try:
        program = import_module(f"lensgraph.tools.local.training.{name}")
    except ModuleNotFoundError as error:
        install = "pip install '.[hub,world]' in a clone of LensGraph"
        print(f"{prog} {name}: needs {error.name}: {install}", file=sys.stderr)
        return 2
    program.main(rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
