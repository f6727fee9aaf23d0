"""The recipe of a supervised run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.run.base_recipes import RowsRecipe


class SFTRecipe(RowsRecipe):
    """Every hyper-parameter of a supervised run."""

    data_order: ClassVar[tuple[str, ...]] = (
        "demonstrations", "trajectories", "rewrite_share", "eager_share", "frugal_share", "rephrase_share",
        "worn_share", "lookalike_share", "weights", "workflows", "batch", "accumulate", "seed",
    )  # fmt: skip

    demonstrations: Path = Path("runs/world_sft/demonstrations.jsonl")
    """File of demonstrations; if it is missing, the run makes it first."""
    trajectories: Path | None = None
    """Folder of trajectories to imitate instead of demonstrations, such as those of a larger policy; only right
    ones count."""
    output: Path = Path("runs/world_sft")
    """Folder for checkpoints, log and the finished policy (`policy/`)."""
    start_from: Path | None = None
    """Checkpoint folder or model name to train on; None builds a new policy of `size`."""
    lora: dict[str, Any] | None = None
    """Options of peft's LoraConfig, for every projection of the decoder unless they say otherwise; the vision tower
    then stays as it is. None trains all weights."""
    sight: Path | None = None
    """Folder of a trained vision tower (`python -m rl.train sight`) to begin with. None keeps the network's own
    tower and trains it."""
    freeze_vision: bool = False
    """Freeze the tower's patch embedding and blocks; its merger is trained (online, `freeze_vision` freezes the
    merger too)."""
    size: PocketSize = PocketSize()
    """Size of a new network, and of the pictures of a new tower."""
    rewrite_share: float = Field(default=0.85, ge=0, le=1)
    """Share of rows that tell of an invented entity."""
    eager_share: float = Field(default=0.65, ge=0, le=1)
    """Share of the rows about known or visible answers in which the policy searches although it need not. The
    cold start shows both ways, and online training finds the better one; with more than half, a greedy policy
    searches too often."""
    frugal_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the rows about a lay question (`correction`) that ask in the page's own words at once. The
    others ask in the question's words first, miss and correct themselves; online training finds the cheaper
    way."""
    rephrase_share: float = Field(default=0.75, ge=0, le=1)
    """Share of rows whose question is put in other words (`lensgraph.rl.pocket.rephrase`)."""
    worn_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the rows about a single entity whose question has lost a word or two."""
    lookalike_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows about an invented flag whose picture is invented too
    (`lensgraph.rl.pocket.invented_flags`)."""
    weights: dict[str, float] = {}
    """Relative weight of each family in the draw; a family that is not named has 1. `family/flag` and
    `family/thing` multiply the share of the family's rows whose picture shows one flag or one thing."""
    workflows: dict[str, float] = {"search_agent": 0.84, "rag": 0.11, "direct": 0.05}
    """Relative weight of each graph in the draw."""
    batch: int = Field(default=256, ge=1)
    """Rows a step on each device."""
    accumulate: int = Field(default=1, ge=1)
    """Batches a step."""
    warmup_steps: int = 150
    """Steps to reach the peak."""
    decay_steps: int = 300
    """Steps of the cosine decay to zero at the end. A run that must end early is resumed with fewer `steps`."""
    max_length: int = 1024
    """Most tokens of a row. A longer row is an error and is not cut, because a cut could fall inside a picture."""
    workers: int = 0
    """Data loader processes; on a GPU give one for each core."""
