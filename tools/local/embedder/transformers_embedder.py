"""Any transformers vision model as the embedder of an index: CLIP and SigLIP image towers, DINOv2, ViT, ConvNeXt, ...

The name is a hub name or a folder. How a picture becomes one vector is read from the model: its projected image features
where it has them (CLIP, SigLIP), else its pooled output, else the mean of its last hidden states.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from lensgraph.tools.local.embedder.interface import EmbedderError, ImageEmbedder
from lensgraph.tools.safety.one_line import one_line

BATCH = 16
"""Pictures per forward pass."""


class TransformersEmbedder(ImageEmbedder):
    """A transformers vision model, by hub name or folder; runs on the GPU when there is one."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self._processor: Any = AutoImageProcessor.from_pretrained(name)
            model: Any = AutoModel.from_pretrained(name, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise EmbedderError(
                f"Embedder 'transformers:{name}' cannot be loaded: {one_line(error, 160)}; "
                "give a folder, or the hub name of a vision model, which the first use downloads."
            ) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.eval().to(self._device)
        self._dimension = int(self.embed([Image.new("RGB", (64, 64))]).shape[1])

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """Hash of the configuration, the preprocessing and a sample of every weight."""
        digest = hashlib.sha256(self._processor.to_json_string().encode())
        digest.update(type(self._model).__name__.encode())
        for key, value in sorted(self._model.state_dict().items()):
            # A few numbers of each tensor tell two checkpoints apart; hashing gigabytes would take longer than loading.
            sample = value.flatten()[:: max(1, value.numel() // 16)][:16].float().cpu()
            digest.update(key.encode() + str(tuple(value.shape)).encode() + sample.numpy().tobytes())
        return digest.hexdigest()[:16]

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """One unit row a picture."""
        rows = []
        for start in range(0, len(pictures), BATCH):
            batch = [picture.convert("RGB") for picture in pictures[start : start + BATCH]]
            pixels = self._processor(images=batch, return_tensors="pt")["pixel_values"].to(self._device)
            with torch.inference_mode():
                rows.append(torch.nn.functional.normalize(self._features(pixels).float(), dim=-1).cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self._dimension), np.float32)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        if hasattr(self._model, "get_image_features"):
            out = self._model.get_image_features(pixel_values=pixels)
            # transformers 5 returns an output object whose pooled output is the projected feature.
            return out if isinstance(out, torch.Tensor) else out.pooler_output
        out = self._model(pixel_values=pixels)
        pooled = getattr(out, "pooler_output", None)
        if pooled is None:
            hidden = out.last_hidden_state
            # (n, tokens, width) of a transformer, (n, channels, height, width) of a convolutional network
            pooled = hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
        return pooled.flatten(1)
