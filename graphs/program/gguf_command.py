"""`lensgraph export gguf`: a checkpoint in the files of another engine."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from lensgraph.agent.errors import UserError
from lensgraph.agent.pocket import checkpoint


def gguf(given: argparse.Namespace) -> int:
    """Write the two files of llama.cpp and print the command that serves them."""
    if importlib.util.find_spec("gguf") is None:
        raise UserError('lensgraph export gguf needs the package gguf: pip install ".[gguf]" in a clone of LensGraph')

    from lensgraph.agent.policy.light.gguf_export import export

    try:
        model, tower = export(Path(checkpoint(given.model)), given.out.expanduser(), given.numbers)
    except OSError as error:
        raise UserError(str(error)) from error
    print(f"{model}\n{tower}")
    where = f"policy.kind=openai_compatible policy.model={given.out}"
    print(f"serve them with: lensgraph serve --engine llama_cpp {where}")
    return 0
