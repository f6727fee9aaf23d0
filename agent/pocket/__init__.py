"""The pocket policy: a tiny Qwen2.5-VL that ships with the package. `weights/README.md` is its card."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The checkpoint folder: config, tokenizer, image processor, safetensors."""
COLD_START = Path(__file__).parent / "cold_start"
"""The same policy before online training, for those who want to train it themselves."""
NAMES = {"pocket": WEIGHTS, "pocket-cold-start": COLD_START}
"""Checkpoints that ship, by the name that a configuration gives them."""


def checkpoint(model: str) -> str:
    """Where a policy's checkpoint is: a folder, or a hub name.

    Raises:
        FileNotFoundError: the pocket policy's weights are not installed, or the folder holds no checkpoint.
    """
    if model in NAMES:
        if not (NAMES[model] / "config.json").is_file():
            raise FileNotFoundError(
                f"the weights of {model} are not in {NAMES[model].name}/; reinstall lensgraph, or make them with "
                "'python -m rl.train sft'"
            )
        return str(NAMES[model])
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise FileNotFoundError(f"policy.model={model}: no config.json in that folder; point it at a checkpoint")
    return model
