"""The pictures of some dialogues as the arguments that a family's network takes beside the ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from lensgraph.agent.policy.families.table import Family
from lensgraph.agent.policy.render import Rendered


def picture_inputs(
    family: Family, rows: Sequence[Rendered], ids: torch.Tensor, image_pad: int
) -> dict[str, torch.Tensor]:
    """Tensors on the CPU, float32 and int64, by argument name; empty if no dialogue has a picture.

    The layouts (`Family.pictures`):

    - `grids`: the patches of all pictures one after another, and their grids;
    - `rows`: the views of a dialogue are a row, with a mask of their pixels; shorter rows are filled with zeros, which the
      network takes for no view;
    - `views`: the views of a picture are a row, with the picture's own size; shorter rows are filled with zeros;
    - `flat`: the views of all pictures one after another;
    - `typed`: the same, and the kind of every token, by which a picture is read in both directions.

    Args:
        family: Decides the layout.
        rows: The dialogues of a batch.
        ids: Their padded ids, (rows, tokens), which tell where the placeholders stand.
        image_pad: Id of a picture's placeholder.
    """
    pictures = [picture for row in rows for picture in row.pixels]
    kinds = (ids == image_pad).long().cpu()
    if not pictures:
        return {"token_type_ids": kinds} if family.pictures == "typed" else {}  # its training asks for it in every case
    values = [torch.from_numpy(picture.values) for picture in pictures]
    more = {name: [torch.from_numpy(picture.more[name]) for picture in pictures] for name in pictures[0].more}
    if family.pictures == "grids":
        grids = torch.tensor([picture.grid for picture in pictures])
        return {"pixel_values": torch.cat(values), "image_grid_thw": grids, "mm_token_type_ids": kinds}
    if family.pictures == "rows":
        counts = [len(row.pixels) for row in rows]
        named = {"pixel_values": values, **more}
        return {name: _filled(_joined(parts, counts)) for name, parts in named.items()}
    if family.pictures == "views":
        return {"pixel_values": _filled(values), "image_sizes": torch.cat(more["image_sizes"])}
    typed = {"token_type_ids": kinds} if family.pictures == "typed" else {}
    return {"pixel_values": torch.cat(values), **typed}


def _joined(parts: Sequence[torch.Tensor], counts: Sequence[int]) -> list[torch.Tensor]:
    """The views (1, views, ...) of each dialogue's pictures in one row; a dialogue without any has a row of none."""
    left, none = iter(parts), parts[0][:, :0]
    return [torch.cat([none, *(next(left) for _ in range(count))], 1) for count in counts]


def _filled(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows (1, views, ...) of different lengths as one tensor, filled with zeros behind."""
    longest = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, 0) * (part.dim() - 2) + (0, longest - part.shape[1])) for part in parts])
