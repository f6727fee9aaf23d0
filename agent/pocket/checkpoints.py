"""The checkpoints that ship with the package, and the folder of any checkpoint that a configuration names."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The pocket policy's checkpoint folder: config, tokenizer, image processor, safetensors."""
COLD_START = Path(__file__).parent / "cold_start"
"""The same policy before online training, for those who train it themselves."""
SHIPPED = {"pocket": WEIGHTS, "pocket-cold-start": COLD_START}
"""Name in a configuration -> folder of a shipped checkpoint."""


def checkpoint(model: str) -> str:
    """The folder of a policy's checkpoint, or its hub name.

    Raises:
        FileNotFoundError: the pocket policy's weights are not installed, or the folder holds no checkpoint.
    """
    if model in SHIPPED:
        if not (SHIPPED[model] / "config.json").is_file():
            raise FileNotFoundError(
                f"the weights of {model} are not in {SHIPPED[model].name}/; reinstall lensgraph, or make them with "
                "'python -m lensgraph.rl.train sft'"
            )
        return str(SHIPPED[model])
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise FileNotFoundError(f"policy.model={model}: no config.json in that folder; point it at a checkpoint")
    return model
