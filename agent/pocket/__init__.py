"""The pocket policy: a tiny Qwen2.5-VL that ships with the package. `weights/README.md` is its card."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The checkpoint folder: config, tokenizer, image processor, safetensors."""


def checkpoint(model: str) -> str:
    """Where a policy's checkpoint is: a folder, or a hub name.

    Raises:
        FileNotFoundError: the pocket policy's weights are not installed, or the folder holds no checkpoint.
    """
    if model == "pocket" and not (WEIGHTS / "config.json").is_file():
        raise FileNotFoundError(
            f"the pocket policy's weights are not in {WEIGHTS.name}/; reinstall lensgraph, or make them with "
            "'python -m rl.train sft'"
        )
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise FileNotFoundError(f"policy.model={model}: no config.json in that folder; point it at a checkpoint")
    return str(WEIGHTS) if model == "pocket" else model
