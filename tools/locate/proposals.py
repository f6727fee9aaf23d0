"""The regions of a picture that stand out from a calm background, found by classical means.

The background is estimated from the border of the picture as a plane of colour (so a gradient is no object), what differs
from it clearly is foreground, and foreground that hangs together, small gaps included, is one region. Works for drawings,
icons and objects on plain, graded or finely textured ground, also where a small palette dithered them. Not covered:
cluttered photographs; there the result is one or a few large regions.

Invariant: regions do not share a pixel of foreground, and each box is the tightest around its region.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from lensgraph.tools.locate.dither import is_dithered, mixed
from lensgraph.tools.results import Box

WORK_SIDE = 448
"""Longer side of the picture that is analysed; larger ones are reduced first."""
BORDER = 3
"""Width of the frame that shows the background, in pixels."""
CONTRAST = 26.0
"""Smallest distance in RGB, of 441, from the background that counts as foreground."""
SIGMAS = 5.0
"""Smallest distance in standard deviations of the background's own texture; the larger of the two limits counts."""
GAP = 4
"""Foreground parts up to twice this far apart belong together, in pixels."""
FRAGMENT = 0.12
"""A part with less than this share of the largest region's box is a crumb of its neighbour, if one is near."""
BAND_EDGES = 2
"""Bands of one flag start and end at the same place, give or take this many pixels."""
REACH = 14
"""Largest distance of a crumb from the region that it belongs to, in pixels."""
SMALLEST = 0.0008
"""Regions under this share of the picture are specks."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """One region before anybody asked for it."""

    box: Box
    """In pixels of the original picture."""
    mask: np.ndarray
    """Foreground inside the box, at working size, holes filled."""
    pixels: np.ndarray
    """The RGB pixels inside the box, at working size."""


def propose(picture: Image.Image) -> list[Proposal]:
    """The regions of an RGB picture in reading order of their top left corners; [] when it is all background."""
    scale = max(1.0, max(picture.size) / WORK_SIDE)
    small = picture
    if scale > 1:
        size = (max(1, round(picture.width / scale)), max(1, round(picture.height / scale)))
        small = picture.resize(size, Image.Resampling.BOX)
    if is_dithered(picture):
        small = mixed(small)
    pixels = np.asarray(small)
    mask = foreground(pixels)
    labels, count = label(dilate(mask, GAP))
    labels = np.where(mask, labels, 0)
    boxes = [box for box in _boxes(labels, count) if box is not None]
    groups = _join_bands(boxes, _join_fragments(boxes))
    floor = max(6.0, SMALLEST * mask.size)
    found = []
    for group in groups:
        left, top = min(boxes[i].left for i in group), min(boxes[i].top for i in group)
        right, bottom = max(boxes[i].right for i in group), max(boxes[i].bottom for i in group)
        own = np.isin(labels[top:bottom, left:right], [boxes[i].label for i in group])
        if own.sum() < floor or min(right - left, bottom - top) < 3:
            continue
        box = Box(
            left=int(left * scale),
            top=int(top * scale),
            right=min(picture.width, max(int(left * scale) + 1, round(right * scale))),
            bottom=min(picture.height, max(int(top * scale) + 1, round(bottom * scale))),
        )
        found.append(Proposal(box, fill_holes(own), pixels[top:bottom, left:right]))
    return sorted(found, key=lambda p: (p.box.top, p.box.left))


def foreground(pixels: np.ndarray) -> np.ndarray:
    """True where a pixel differs from the background that the border shows."""
    height, width, _ = pixels.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    plane = np.stack([np.ones_like(x), x / max(width, 1) - 0.5, y / max(height, 1) - 0.5], axis=-1)
    frame = np.zeros((height, width), bool)
    frame[:BORDER] = frame[-BORDER:] = True
    frame[:, :BORDER] = frame[:, -BORDER:] = True
    design, colours = plane[frame], pixels[frame].astype(np.float32)
    # Start from the median so that things touching the border cannot pull the plane, then drop what lies far off.
    keep = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) < 80
    if keep.sum() < 16:
        keep[:] = True
    fit = np.zeros((3, 3), np.float32)
    for _ in range(3):
        fit = np.linalg.lstsq(design[keep], colours[keep], rcond=None)[0].astype(np.float32)
        distance = np.linalg.norm(colours - design @ fit, axis=1)
        closer = distance < max(12.0, 3 * float(np.median(distance[keep])))
        if closer.sum() < 16 or bool((closer == keep).all()):
            break
        keep = closer
    rest = np.linalg.norm(colours[keep] - design[keep] @ fit, axis=1)
    threshold = max(CONTRAST, SIGMAS * float(np.sqrt(np.mean(rest**2) / 3)))
    return np.linalg.norm(pixels.astype(np.float32) - plane @ fit, axis=-1) > threshold


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask grown by a square of this radius."""
    for axis in (0, 1):
        counts = np.cumsum(mask, axis=axis, dtype=np.int32)
        size = mask.shape[axis]
        high = np.minimum(np.arange(size) + radius, size - 1)
        low = np.arange(size) - radius - 1
        upper = np.take(counts, high, axis=axis)
        lower = np.take(counts, np.maximum(low, 0), axis=axis)
        lower[(low < 0) if axis == 0 else (slice(None), low < 0)] = 0
        mask = upper > lower
    return mask


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the 4-connected parts of a mask from 1; returns the numbered picture and how many there are.

    Works on runs of each row, so that the Python loop is over runs and not over pixels.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    ends = np.nonzero(change == -1)[1]
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_of_row = np.searchsorted(rows, np.arange(height + 1))
    begin, end = starts.tolist(), ends.tolist()
    for row in range(1, height):
        above, stop_above = int(first_of_row[row - 1]), int(first_of_row[row])
        here, stop = stop_above, int(first_of_row[row + 1])
        while above < stop_above and here < stop:
            if begin[above] < end[here] and begin[here] < end[above]:
                a, b = root(above), root(here)
                parent[max(a, b)] = min(a, b)
            if end[above] < end[here]:
                above += 1
            else:
                here += 1
    roots = np.array([root(i) for i in range(len(rows))], dtype=np.int64)
    _, numbers = np.unique(roots, return_inverse=True)
    # Paint runs: +n at the start, -n at the end, then sum along the row.
    painted = np.zeros((height, width + 1), np.int32)
    np.add.at(painted, (rows, starts), numbers + 1)
    np.add.at(painted, (rows, ends), -(numbers + 1))
    return np.cumsum(painted, axis=1)[:, :-1], int(numbers.max() + 1) if len(rows) else 0


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """The mask with everything it encloses."""
    outside = np.ones((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    outside[1:-1, 1:-1] = ~mask
    labels, _ = label(outside)
    return (labels != labels[0, 0])[1:-1, 1:-1]


@dataclass(frozen=True)
class _Part:
    label: int
    pixels: int
    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        return (self.right - self.left) * (self.bottom - self.top)

    def distance(self, other: _Part) -> int:
        dx = max(self.left - other.right, other.left - self.right, 0)
        dy = max(self.top - other.bottom, other.top - self.bottom, 0)
        return max(dx, dy)


def _boxes(labels: np.ndarray, count: int) -> list[_Part | None]:
    if count == 0:
        return []
    ys, xs = np.nonzero(labels)
    which = labels[ys, xs]
    sizes = np.bincount(which, minlength=count + 1)
    low_x, low_y = np.full(count + 1, labels.shape[1]), np.full(count + 1, labels.shape[0])
    high_x, high_y = np.zeros(count + 1, int), np.zeros(count + 1, int)
    np.minimum.at(low_x, which, xs)
    np.minimum.at(low_y, which, ys)
    np.maximum.at(high_x, which, xs + 1)
    np.maximum.at(high_y, which, ys + 1)
    return [
        _Part(n, int(sizes[n]), int(low_x[n]), int(low_y[n]), int(high_x[n]), int(high_y[n])) if high_x[n] else None
        for n in range(1, count + 1)
    ]


def _join_fragments(parts: list[_Part]) -> list[list[int]]:
    """Indexes of parts, grouped: a crumb joins the nearest larger part within reach."""
    if not parts:
        return []
    largest = max(part.area for part in parts)
    order = sorted(range(len(parts)), key=lambda i: -parts[i].area)
    home: dict[int, int] = {}
    for place, i in enumerate(order):
        home[i] = i
        if parts[i].area >= FRAGMENT * largest:
            continue
        near = [(parts[i].distance(parts[j]), j) for j in order[:place]]
        if near and min(near)[0] <= REACH:
            home[i] = home[min(near)[1]]
    groups: dict[int, list[int]] = {}
    for i, top in home.items():
        groups.setdefault(top, []).append(i)
    return list(groups.values())


def _join_bands(parts: list[_Part], groups: list[list[int]]) -> list[list[int]]:
    """Join the outer bands of a flag whose middle band has the colour of the ground."""
    merged: list[list[int]] = []
    for group in groups:
        partner = None
        if len(group) == 1:
            partner = next((m for m in merged if len(m) == 1 and _bands_of_one(parts[m[0]], parts[group[0]])), None)
        if partner is None:
            merged.append(group)
        else:
            partner.extend(group)
    return merged


def _bands_of_one(a: _Part, b: _Part) -> bool:
    if min(a.pixels / a.area, b.pixels / b.area) < 0.97:
        return False
    width = max(a.right, b.right) - min(a.left, b.left)
    height = max(a.bottom, b.bottom) - min(a.top, b.top)
    if not 1.15 < width / height < 2.2:
        return False
    if abs(a.left - b.left) <= BAND_EDGES and abs(a.right - b.right) <= BAND_EDGES:
        bands, whole = (a.bottom - a.top, b.bottom - b.top), height
    elif abs(a.top - b.top) <= BAND_EDGES and abs(a.bottom - b.bottom) <= BAND_EDGES:
        bands, whole = (a.right - a.left, b.right - b.left), width
    else:
        return False
    thick, thin = max(bands), min(bands)
    return thick < 0.5 * whole and thin >= 0.8 * thick and a.distance(b) <= 1.2 * thick
