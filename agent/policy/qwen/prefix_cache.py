"""Keys and values of the beginnings of dialogues, kept for their next turns (prefix caching).

Invariants: equal keys stand for equal ids and pictures, so for equal states; kept states never exceed `capacity` bytes, and
the least recently used go first.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import torch

from lensgraph.agent.policy.render import Rendered


class PrefixCache:
    """States (keys and values) of dialogue beginnings, each of shape (layers, 2, heads, tokens, head size)."""

    def __init__(self, capacity: int, image_pad: int, merge: int) -> None:
        """`capacity` is in bytes; `merge` is the side, in patches, of the square that one placeholder stands for."""
        self.capacity, self.bytes = capacity, 0
        self._image_pad, self._merge = image_pad, merge
        self._states: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def find(self, row: Rendered) -> torch.Tensor | None:
        """The states of the longest known beginning that leaves a token to read. None: no beginning is known.

        That is all but the last token (a sibling was read before), or all up to the last sampled token, which never went
        through the network itself."""
        sampled = len(row.mask) - row.mask[::-1].index(1) if 1 in row.mask else 0
        for tokens in (len(row.ids) - 1, sampled - 1):
            key = self.key(row, tokens) if tokens > 0 else b""
            if key in self._states:
                self._states.move_to_end(key)
                return self._states[key]
        return None

    def keep(self, row: Rendered, states: torch.Tensor) -> None:
        """Keep the states of the dialogue's first tokens; their number is read from the shape of `states`."""
        key, size = self.key(row, states.shape[3]), states.numel() * states.element_size()
        if size > self.capacity or key in self._states:
            return
        self._states[key] = states.clone()
        self.bytes += size
        while self.bytes > self.capacity:
            gone = self._states.popitem(last=False)[1]
            self.bytes -= gone.numel() * gone.element_size()

    def key(self, row: Rendered, tokens: int) -> bytes:
        """Key of the first tokens of a dialogue and the pictures among them."""
        digest = hashlib.sha256(np.asarray(row.ids[:tokens], dtype=np.int64).tobytes())
        for picture in row.pixels[: self.pictures(row, tokens)]:
            digest.update(picture.id.encode())
        return digest.digest()

    def pictures(self, row: Rendered, tokens: int) -> int:
        """Number of pictures before token `tokens`, which lies outside of any picture."""
        left, count = row.ids[:tokens].count(self._image_pad), 0
        for picture in row.pixels:
            left -= int(np.prod(picture.grid)) // self._merge**2
            if left < 0:
                break
            count += 1
        return count
