"""Collate rendered dialogues into the padded batch that a model trains on.

Everything that depends on the layout of pictures is computed here, in the data loader's workers; for Qwen-VL
that is the three-part rotary positions and the order of patches in the vision tower. The model would compute
it row by row on the device.

Invariants (tested): labels are the ids where the mask is 1 and -100 elsewhere; positions equal the model's own;
placeholders = grid / merge**2 for every picture, else a ValueError (the model would silently mix up rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.vision_utils import get_vision_cu_seqlens, get_vision_position_ids, get_vision_window_index

from lensgraph.agent.policy.families.picture_batch import picture_inputs
from lensgraph.agent.policy.families.table import FAMILIES
from lensgraph.agent.policy.positions import mrope_positions
from lensgraph.agent.policy.render import Rendered, Renderer

IGNORE = -100  # label that torch's cross-entropy leaves out


class Collator:
    """Pads on the right, because training needs no alignment at the end."""

    def __init__(self, config: Any, *, pad: int, max_length: int = 2048) -> None:
        self.pad, self.max_length, self.family = pad, max_length, FAMILIES[config.model_type]
        self.image_pad, self.vision = config.image_token_id, config.vision_config

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch of some rows, each with a `Rendered` under `rendered`.

        Raises:
            ValueError: a dialogue is longer than `max_length`.
        """
        dialogues: list[Rendered] = [row["rendered"] for row in rows]
        longest = max(len(dialogue.ids) for dialogue in dialogues)
        if longest > self.max_length:
            raise ValueError(
                f"a dialogue of {longest} tokens is over max_length={self.max_length}; raise it or drop the row"
            )
        shape = (len(dialogues), longest)
        ids = torch.full(shape, self.pad)
        attention = torch.zeros(shape, dtype=torch.long)
        labels = torch.full(shape, IGNORE)
        for i, dialogue in enumerate(dialogues):
            n = len(dialogue.ids)
            row = torch.tensor(dialogue.ids)
            ids[i, :n], attention[i, :n] = row, 1
            labels[i, :n] = torch.where(torch.tensor(dialogue.mask) == 1, row, IGNORE)
        batch = {"input_ids": ids, "attention_mask": attention, "labels": labels}
        if self.family.pictures != "grids":
            return batch | picture_inputs(self.family, dialogues, ids, self.image_pad)
        positions = torch.ones((3, *shape), dtype=torch.long)
        for i, dialogue in enumerate(dialogues):
            grids = [picture.grid for picture in dialogue.pixels]
            where = mrope_positions(dialogue.ids, grids, self.image_pad, self.vision.spatial_merge_size)
            positions[:, i, : len(dialogue.ids)] = torch.from_numpy(where)
        batch["position_ids"] = positions
        pictures = [picture for dialogue in dialogues for picture in dialogue.pixels]
        if pictures:
            batch["pixel_values"] = torch.from_numpy(np.concatenate([picture.values for picture in pictures]))
            grids = torch.tensor([picture.grid for picture in pictures])
            windows = isinstance(self.vision, Qwen2_5_VLVisionConfig)
            batch |= vision_layout(grids, self.vision) if windows else {"image_grid_thw": grids}
        return batch


def vision_layout(grid: torch.Tensor, config: Qwen2_5_VLVisionConfig) -> dict[str, torch.Tensor]:
    """The tensors that the vision tower would compute itself from `grid` (pictures, 3), under its argument names.

    The whole model passes on names that begin with `image_`; the tower alone takes them without that prefix.
    """
    window, borders = get_vision_window_index(grid, config.spatial_merge_size, config.window_size, config.patch_size)
    return {
        "image_grid_thw": grid,
        "image_position_ids": get_vision_position_ids(grid, config.spatial_merge_size),
        "image_cu_seqlens": get_vision_cu_seqlens(grid),
        "image_window_index": window,
        "image_cu_window_seqlens": borders,
    }


def check_pictures(rendered: Rendered, renderer: Renderer) -> None:
    """Check that placeholders, pictures and grids of one row agree.

    Raises:
        ValueError: they do not; training would go on without pictures.
    """
    merge = renderer.processor.merge_size**2
    wanted = sum(picture.grid[0] * picture.grid[1] * picture.grid[2] // merge for picture in rendered.pixels)
    found = sum(token == renderer.image_pad for token in rendered.ids)
    patches = [
        (len(picture.values), picture.grid[0] * picture.grid[1] * picture.grid[2]) for picture in rendered.pixels
    ]
    cut = [(have, want) for (have, want), picture in zip(patches, rendered.pixels, strict=True) if not picture.text]
    if wanted != found or any(have != want for have, want in cut):
        raise ValueError(
            f"{found} placeholders for {wanted} visual tokens of {len(rendered.pixels)} pictures ({patches})"
        )
