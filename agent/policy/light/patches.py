"""Cut a picture into the patches that a Qwen-VL vision tower takes, with Pillow and numpy.

Invariant: the same numbers as transformers' PIL image processor with the same settings (tested).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lensgraph.tools.locate.qwen import scaled


@dataclass(frozen=True)
class Patches:
    """The image processor of a checkpoint: its settings; calling it cuts a picture."""

    patch: int
    """Side of a patch, in pixels."""
    merge: int
    """Side, in patches, of the square that becomes one token."""
    temporal: int
    """Frames in a patch; a picture is repeated to fill them."""
    least: int
    """Fewest pixels a picture is scaled to."""
    most: int
    """Most pixels a picture is scaled to."""
    resample: int
    """Pillow's number of the filter."""
    scale: float
    """Factor from a byte to a value."""
    mean: tuple[float, ...]
    """Mean of each channel, which is subtracted."""
    deviation: tuple[float, ...]
    """Standard deviation of each channel, which the values are divided by."""

    @classmethod
    def read(cls, folder: Path) -> Patches:
        """The settings in a checkpoint folder.

        Raises:
            OSError: there are none, or they are for another kind of model.
        """
        settings = _settings(folder)
        kind = str(settings.get("image_processor_type", ""))
        if not kind.startswith(("Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor")):
            raise OSError(f"{folder}: image_processor_type is {kind!r}; use a Qwen2.5-VL checkpoint")
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if not settings.get(step, True):
                raise OSError(f"{folder}: {step} is off, which policy.kind=pocket does not do; use transformers")
        size = settings.get("size") or {}
        return cls(
            patch=settings.get("patch_size", 14),
            merge=settings.get("merge_size", 2),
            temporal=settings.get("temporal_patch_size", 2),
            least=settings.get("min_pixels") or size["shortest_edge"],
            most=settings.get("max_pixels") or size["longest_edge"],
            resample=settings.get("resample", Image.Resampling.BICUBIC),
            scale=settings.get("rescale_factor", 1 / 255),
            mean=tuple(settings["image_mean"]),
            deviation=tuple(settings["image_std"]),
        )

    def __call__(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int, int]]:
        """(patches, values) float32 in the order of the merged tokens, and the grid (time, height, width)."""
        width, height = self.size(*picture.size)
        pixels = np.asarray(picture.convert("RGB").resize((width, height), self.resample))
        values: np.ndarray = (pixels.astype(np.float64) * self.scale).astype(np.float32)
        values = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.deviation, np.float32)
        rows, columns = height // self.patch, width // self.patch
        blocks = values.reshape(
            rows // self.merge, self.merge, self.patch, columns // self.merge, self.merge, self.patch, 3
        )  # fmt: skip
        # (block row, block column, row, column, channel, y, x): patches of one token stand together
        ordered = blocks.transpose(0, 3, 1, 4, 6, 2, 5).reshape(rows * columns, 3, 1, -1)
        return np.repeat(ordered, self.temporal, axis=2).reshape(rows * columns, -1), (1, rows, columns)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size a picture is scaled to: whole tokens, within the limits, about the same shape.

        Raises:
            ValueError: the picture is a sliver.
        """
        return scaled(width, height, factor=self.patch * self.merge, least=self.least, most=self.most)


def _settings(folder: Path) -> dict[str, Any]:
    """Newer checkpoints keep them inside `processor_config.json`."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            found: dict[str, Any] = json.loads((folder / name).read_text("utf-8"))
            found = found.get("image_processor", found) if name == "processor_config.json" else found
            if "image_mean" in found:
                return found
    raise OSError(f"{folder}: no preprocessor_config.json with image settings; give a complete checkpoint folder")
