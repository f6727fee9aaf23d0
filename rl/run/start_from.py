"""The checkpoint that a run begins with, found before anything of it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedConfig

from lensgraph.agent.pocket import SHIPPED, checkpoint
from lensgraph.agent.policy.build_policy import UNREACHED
from lensgraph.tools.safety.one_line import one_line


def find(start_from: str | Path) -> Path:
    """The folder of a checkpoint with a config.json, or a model name that the hub or its cache knows.

    Raises:
        FileNotFoundError: there is neither; the message is one line with the fix.
    """
    if str(start_from) in SHIPPED:
        return Path(checkpoint(str(start_from)))
    folder, named = Path(start_from).expanduser(), f"start_from={start_from}"
    if (folder / "config.json").is_file():
        return folder
    if (folder / "adapter_config.json").is_file():
        base = json.loads((folder / "adapter_config.json").read_text("utf-8")).get("base_model_name_or_path")
        raise FileNotFoundError(
            f"{named}: an adapter of {base} without that model; merge the two (peft's merge_and_unload), or give the "
            "policy/ of a finished run, in which they are merged"
        )
    if folder.is_dir():
        raise FileNotFoundError(f"{named}: no config.json in that folder; give the folder of a checkpoint")
    if len(folder.parts) > 2:  # a model name has one part or two
        raise FileNotFoundError(f"{named}: no checkpoint there; give a folder or a model name")
    try:
        PreTrainedConfig.get_config_dict(str(start_from))
    except OSError as error:
        why = one_line(error, first=True)
        if UNREACHED in why:
            why = "the hub cannot be reached (or HF_HUB_OFFLINE is set), and the model is not among the downloaded ones"
        raise FileNotFoundError(
            f"{named}: no such folder, and {why}; download the model and give its folder"
        ) from error
    return Path(start_from)
