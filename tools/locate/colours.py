"""Basic colour words for pixels, and how much of a region each covers.

The words are the eleven basic colour terms of English; limits are on hue, saturation and value.
"""

from __future__ import annotations

import numpy as np

WORDS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
"""Every colour word that an expression may use."""
SYNONYMS = {
    "gray": "grey", "silver": "grey", "violet": "purple", "magenta": "pink", "navy": "blue", "cyan": "blue",
    "turquoise": "blue", "teal": "green", "gold": "yellow", "golden": "yellow", "crimson": "red", "scarlet": "red",
    "maroon": "red", "beige": "brown", "lime": "green", "azure": "blue",
}  # fmt: skip
"""Other words, and the basic one that stands for each."""


def shares(pixels: np.ndarray) -> dict[str, float]:
    """The share of the pixels, shape (n, 3), that each colour word covers. Pale tints count as no colour."""
    values = pixels.astype(np.float32) / 255
    high, low = values.max(axis=1), values.min(axis=1)
    spread = high - low
    saturation = spread / np.maximum(high, 1e-6)
    red, green, blue = values[:, 0], values[:, 1], values[:, 2]
    safe = np.maximum(spread, 1e-6)
    hue = np.where(
        high == red, (green - blue) / safe, np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    hue = hue % 6 * 60
    dark, pale = high < 0.2, saturation < 0.14
    colour = ~dark & ~pale
    reddish = (hue < 14) | (hue >= 340)
    found = {
        "black": dark,
        "white": ~dark & pale & (high > 0.88),
        "grey": ~dark & pale & (high < 0.8),
        "pink": colour & ((reddish & (saturation < 0.5) & (high > 0.75)) | ((hue >= 310) & (hue < 340))),
        "red": colour & reddish & ~((saturation < 0.5) & (high > 0.75)),
        "orange": colour & (hue >= 14) & (hue < 40) & (high >= 0.6),
        "yellow": colour & (hue >= 40) & (hue < 68) & (high > 0.6),
        "brown": colour & (((hue >= 14) & (hue < 40) & (high < 0.6)) | ((hue >= 40) & (hue < 68) & (high <= 0.6))),
        "green": colour & (hue >= 68) & (hue < 165),
        "blue": colour & (hue >= 165) & (hue < 255),
        "purple": colour & (hue >= 255) & (hue < 310),
    }
    return {word: float(mask.mean()) if len(pixels) else 0.0 for word, mask in found.items()}
