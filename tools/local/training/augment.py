"""From stored pictures to what the embedder meets: index pictures, and items cut out of scenes.

Invariant: a plain view is the picture as `shipped.letterbox` lays it out, give or take a pixel; a hard view is the same
thing seen elsewhere: tilted, waved, round or square, recoloured, shaded, cut with a margin of somebody's background and
perhaps a corner of the neighbour, blurred. A flag is never mirrored and keeps its hues: they are its meaning.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lensgraph.tools.local.embedder.shipped import BACKDROP, MARGIN

SIDE = 112
"""Training looks at smaller pictures than use does: a third of the time, and the body carries over."""


class Augment:
    """Batches of RGBA pictures -> network inputs. Own generator: the same seed gives the same views."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)

    def _uniform(self, n: int, low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=self._random) * (high - low) + low

    def _normal(self, n: int, scale: float, *shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=self._random) * scale

    def _chance(self, n: int, probability: float) -> Tensor:
        return torch.rand(n, generator=self._random) < probability

    def __call__(self, images: Tensor, flag: Tensor, hard: bool) -> Tensor:
        """(n, H, W, 4) uint8 and (n,) bool -> (n, 3, SIDE, SIDE) in [-1, 1]."""
        rgba = images.permute(0, 3, 1, 2).float().div(255)
        rgb, alpha = rgba[:, :3], rgba[:, 3:]
        if hard:
            rgb = self._shade(self._recolour(rgb, flag), flag)
            alpha = self._outline(alpha, flag)
        rgba, box = self._place(torch.cat((rgb * alpha, alpha), 1), flag, hard)
        if hard:
            rgba = self._neighbour(rgba)
        scene = self._scene(len(rgba), box) if hard else self._backdrop(len(rgba))
        picture = rgba[:, :3] + (1 - rgba[:, 3:]) * scene
        if hard:
            picture = self._degrade(picture)
        return picture.clamp(0, 1).mul(2).sub(1)

    def _recolour(self, rgb: Tensor, flag: Tensor) -> Tensor:
        n = len(rgb)
        calm = torch.where(flag, 0.35, 1.0)
        angle = self._normal(n, 0.22) * calm
        angle = torch.where(self._chance(n, 0.1) & ~flag, self._uniform(n, -math.pi, math.pi), angle)
        saturation = torch.exp(self._normal(n, 0.3) * torch.where(flag, 0.8, 1.0))
        saturation = torch.where(self._chance(n, 0.06) & ~flag, self._uniform(n, 0, 0.3), saturation)
        to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
        turn = torch.zeros(n, 3, 3)
        turn[:, 0, 0] = 1
        turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
        turn[:, 1, 2], turn[:, 2, 1] = -saturation * angle.sin(), saturation * angle.sin()
        matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
        rgb = torch.einsum("nij,njhw->nihw", matrix, rgb)
        gain = torch.exp(self._normal(n, 0.12, 3, 1, 1)) * torch.exp(self._normal(n, 0.12, 1, 1, 1))
        lift = self._normal(n, 0.05, 1, 1, 1) + self._normal(n, 0.02, 3, 1, 1)
        rgb = (rgb * gain + lift).clamp(1e-3, 1)
        return rgb ** torch.exp(self._normal(n, 0.2, 1, 1, 1))

    def _shade(self, rgb: Tensor, flag: Tensor) -> Tensor:
        """Light from one side, a soft highlight and coloured shadow: what tells a rendered thing from a drawn one."""
        n = len(rgb)
        axis = torch.linspace(-1, 1, rgb.shape[2])
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        angle = self._uniform(n, 0, 2 * math.pi)[:, None, None]
        slope = (x * angle.cos() + y * angle.sin())[:, None]
        strength = self._normal(n, 0.25, 1, 1, 1) * (self._chance(n, 0.6) & ~flag)[:, None, None, None]
        tint = 1 + self._normal(n, 0.5, 3, 1, 1)
        rgb = rgb * (1 + strength * slope * tint)
        cx, cy = self._uniform(n, -0.5, 0.5, 1, 1), self._uniform(n, -0.6, 0.2, 1, 1)
        spot = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / self._uniform(n, 0.02, 0.3, 1, 1))[:, None]
        shine = self._uniform(n, 0, 0.5, 1, 1, 1) * (self._chance(n, 0.4) & ~flag)[:, None, None, None]
        return (rgb + shine * spot).clamp(0, 1)

    def _outline(self, alpha: Tensor, flag: Tensor) -> Tensor:
        """Some flags are cut round or square."""
        n, side = len(alpha), alpha.shape[2]
        axis = torch.linspace(-1, 1, side)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        # the height of a flag on its canvas, as a share: the diameter of the disc cut from its middle
        high = (alpha[:, 0, :, side // 2] > 0.5).float().mean(1)[:, None, None]
        disc = ((x**2 + y**2).sqrt() < high)[:, None]
        square = (x.abs() < high)[:, None]
        how = torch.rand(n, generator=self._random)
        shape = torch.where((how < 0.25)[:, None, None, None], disc, torch.ones_like(disc))
        shape = torch.where(((how >= 0.25) & (how < 0.35))[:, None, None, None], square, shape)
        return torch.where(flag[:, None, None, None], alpha * shape, alpha)

    def _place(self, rgba: Tensor, flag: Tensor, hard: bool) -> tuple[Tensor, Tensor]:
        """Resample into the input square; also the box (left, top, right, bottom in -1..1) of the item in it."""
        n = len(rgba)
        inside = rgba[:, 3] > 0.5
        across, down = inside.any(1).float().mean(1), inside.any(2).float().mean(1)
        size = 1 - 2 * MARGIN
        if hard:
            scale = self._uniform(n, 0.6, 1.0) * size
            scale = torch.where(self._chance(n, 0.25), self._uniform(n, 0.95, 1.2) * size, scale)
            # what was cut to its outline fills the square again, as letterboxing does
            scale = scale / torch.maximum(across, down).clamp(min=0.3)
            stretch = torch.exp(self._normal(n, 1.0) * torch.where(flag, 0.13, 0.08))
            angle = self._normal(n, 1.0) * torch.where(flag, 0.05, 0.2)
            mirror = torch.where(self._chance(n, 0.5) & ~flag, -1.0, 1.0)
            shear = self._normal(n, 0.06)
        else:
            scale = torch.full((n,), size) * torch.exp(self._normal(n, 0.02))
            stretch, angle, mirror, shear = torch.ones(n), torch.zeros(n), torch.ones(n), torch.zeros(n)
        sx, sy = scale * stretch.sqrt(), scale / stretch.sqrt()
        slack_x, slack_y = (1 - across * sx).clamp(min=0.06), (1 - down * sy).clamp(min=0.06)
        room = 0.6 if hard else 0.05
        tx, ty = self._uniform(n, -room, room) * slack_x, self._uniform(n, -room, room) * slack_y
        cos, sin = angle.cos(), angle.sin()
        axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        dx, dy = x[None] - tx[:, None, None], y[None] - ty[:, None, None]
        if hard:
            wave = self._uniform(n, 0.02, 0.08) * (self._chance(n, 0.25) & flag)
            phase, pitch = self._uniform(n, 0, 6.3), self._uniform(n, 3, 8)
            dy = dy + (wave[:, None, None] * torch.sin(dx * pitch[:, None, None] + phase[:, None, None]))
        u = (cos[:, None, None] * dx + sin[:, None, None] * dy) / sx[:, None, None]
        v = (-sin[:, None, None] * dx + cos[:, None, None] * dy) / sy[:, None, None]
        u = mirror[:, None, None] * u + shear[:, None, None] * v
        placed = F.grid_sample(rgba, torch.stack((u, v), -1), mode="bilinear", align_corners=False)
        box = torch.stack((tx - across * sx, ty - down * sy, tx + across * sx, ty + down * sy), 1)
        return placed, box

    def _neighbour(self, rgba: Tensor) -> Tensor:
        """Sometimes a corner of another item is in the cut."""
        n = len(rgba)
        other = rgba[torch.randperm(n, generator=self._random)]
        shift = int(self._uniform(1, 0.62, 0.9).item() * SIDE)
        moved = torch.zeros_like(other)
        if self._chance(1, 0.5):
            moved[..., shift:] = other[..., : SIDE - shift]
        else:
            moved[..., : SIDE - shift] = other[..., shift:]
        moved = moved * self._chance(n, 0.12)[:, None, None, None]
        return rgba + (1 - rgba[:, 3:]) * moved

    def _backdrop(self, n: int) -> Tensor:
        return (torch.tensor(BACKDROP) / 255)[None, :, None, None].expand(n, 3, SIDE, SIDE)

    def _scene(self, n: int, box: Tensor) -> Tensor:
        """A background inside the cut, the letterbox's backdrop around it."""
        start, end = self._uniform(n, 0, 1, 3, 1, 1), self._uniform(n, 0, 1, 3, 1, 1)
        pale = self._chance(n, 0.5)[:, None, None, None]
        start, end = torch.where(pale, 0.7 + 0.3 * start, start), torch.where(pale, 0.7 + 0.3 * end, end)
        end = torch.where(self._chance(n, 0.5)[:, None, None, None], start, end)
        ramp = torch.linspace(0, 1, SIDE)
        ramp_x, ramp_y = ramp[None, None, None, :], ramp[None, None, :, None]
        down = self._chance(n, 0.5)[:, None, None, None]
        scene = start + (end - start) * torch.where(down, ramp_y, ramp_x)
        grain = F.interpolate(self._normal(n, 1.0, 3, 7, 7), size=(SIDE, SIDE), mode="bilinear")
        scene = scene + grain * (self._uniform(n, 0, 0.2) * self._chance(n, 0.3))[:, None, None, None]
        axis = torch.linspace(-1, 1, SIDE)
        margin = self._uniform(n, 0, 0.25, 4) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
        left, top, right, bottom = (box + margin).unbind(1)
        inside_x = (axis >= left[:, None]) & (axis <= right[:, None])
        inside_y = (axis >= top[:, None]) & (axis <= bottom[:, None])
        cut = (inside_y[:, :, None] & inside_x[:, None, :]) | self._chance(n, 0.3)[:, None, None]
        cut = cut & ~self._chance(n, 0.2)[:, None, None]  # cleanly cut out
        return torch.where(cut[:, None], scene, self._backdrop(n))

    def _degrade(self, picture: Tensor) -> Tensor:
        n = len(picture)
        small = int(self._uniform(1, 32, 96).item())
        shrunk = F.interpolate(picture, size=(small, small), mode="area")
        blurred = F.interpolate(shrunk, size=(SIDE, SIDE), mode="bilinear")
        picture = torch.where(self._chance(n, 0.35)[:, None, None, None], blurred, picture)
        return picture + self._normal(n, 1.0, 3, SIDE, SIDE) * self._uniform(n, 0, 0.03, 1, 1, 1)
