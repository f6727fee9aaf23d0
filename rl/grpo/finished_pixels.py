"""Hand pictures to TRL as the rollout has processed them.

So training uses the pixels that the policy sampled with, bit for bit, and no picture is processed twice.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import BatchFeature

from lensgraph.agent.policy.render import Pixels


@contextlib.contextmanager
def pixels_as_pictures(processor: Any) -> Iterator[None]:
    """A context in which the processor takes finished pictures (`Pixels`) as they are, and processes others
    as usual."""
    stock = processor.image_processor
    processor.image_processor = _Processed(stock)
    try:
        yield
    finally:
        processor.image_processor = stock


class _Processed:
    """An image processor that passes finished pixels on."""

    def __init__(self, stock: Any) -> None:
        self.stock = stock

    def __call__(self, images: Sequence[Any], **kwargs: Any) -> Any:
        if not all(isinstance(picture, Pixels) for picture in images):
            return self.stock(images=images, **kwargs)
        values = torch.cat([torch.from_numpy(picture.values) for picture in images])
        grids = torch.tensor([picture.grid for picture in images])
        return BatchFeature({"pixel_values": values, "image_grid_thw": grids})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stock, name)

    def __reduce__(self) -> Any:
        """Pickle as the stock processor, for other processes such as the sampler's."""
        return copy.copy, (self.stock,)
