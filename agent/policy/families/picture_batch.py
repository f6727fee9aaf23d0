"""The pictures of some dialogues as the arguments that a family's network takes beside the ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lensgraph.agent.policy.families.table import Family
from lensgraph.agent.policy.render import Rendered


def picture_inputs(
    family: Family, rows: Sequence[Rendered], image_pad: int, width: int | None = None, *, left: bool = False
) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, float32 and int64, by argument name; empty if no dialogue has a picture.

    Args:
        family: Decides the layout, see `Family.pictures`.
        rows: The dialogues of a batch.
        image_pad: Id of a picture's placeholder.
        width: Tokens of the padded batch; None: those of the longest row.
        left: The batch is padded on the left.
    """
    pictures = [picture for row in rows for picture in row.pixels]
    if not pictures:
        return {}
    width = width or max(len(row.ids) for row in rows)
    kinds = torch.zeros(len(rows), width, dtype=torch.long)
    for kind, row in zip(kinds, rows, strict=True):
        start = width - len(row.ids) if left else 0
        kind[start : start + len(row.ids)] = (torch.tensor(row.ids) == image_pad).long()
    values = torch.cat([torch.from_numpy(picture.values) for picture in pictures])
    grids = torch.tensor([picture.grid for picture in pictures])
    return {"pixel_values": values, "image_grid_thw": grids, "mm_token_type_ids": kinds}
