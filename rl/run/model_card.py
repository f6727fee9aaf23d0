"""The card of a trained policy, in the form that hubs read: a README.md beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import yaml

from lensgraph.rl.run.base_recipes import RunRecipe

CARD = "README.md"
"""In the folder of the policy."""
PACKAGES = ("lensgraph", "torch", "transformers", "trl")
"""Packages whose versions a card names."""


def write(folder: Path, stage: str, start_from: str, recipe: RunRecipe, figures: Sequence[str]) -> None:
    """Write the card.

    Args:
        folder: Folder of the policy.
        stage: The stage that trained it, such as `grpo`.
        start_from: Checkpoint folder or model name that it began with; empty: new weights.
        recipe: Every value that decided the run.
        figures: Parts in Markdown with what was measured; empty: the card says that nothing was.
    """
    head: dict[str, object] = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
    head["tags"] = ["lensgraph", stage]
    if start_from.count("/") == 1 and not Path(start_from).exists():  # a hub's name, not a folder of this machine
        head["base_model"] = start_from
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    text = f"""---
{yaml.safe_dump(head, sort_keys=False)}---

# {recipe.output.name}

A policy for LensGraph, trained by `python -m lensgraph.rl.train {stage}` from {start_from or "new weights"}, with
{versions}.

## Figures

{chr(10).join(figures) or "Nothing was measured in this run."}

## Recipe

```yaml
{yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)}```
"""
    (folder / CARD).write_text(text, encoding="utf-8")
