"""An item is lifted off a plain background, and only off a plain one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lensgraph.tools.local.embedder import shipped
from lensgraph.tools.local.embedder.cutout import lift
from lensgraph.tools.local.world import renditions


def on(colour: str, drawing: Image.Image, margin: int = 30) -> Image.Image:
    scene = Image.new("RGB", (drawing.width + 2 * margin, drawing.height + 2 * margin), colour)
    scene.paste(drawing, (margin, margin), drawing)
    return scene


def test_a_flag_on_a_colour_is_cut_out_whole_and_surely() -> None:
    flag = renditions.load_rendition("flag:SE", "flag_icons")
    lifted = lift(on("#7a3b9a", flag))
    assert lifted is not None
    assert lifted.certain
    assert abs(lifted.picture.width - flag.width) <= 4
    assert abs(lifted.picture.height - flag.height) <= 4


def test_a_thing_keeps_its_outline_and_loses_the_colour_around_it() -> None:
    lifted = lift(on("#7a3b9a", renditions.load_rendition("thing:1F405", "noto")))
    assert lifted is not None
    assert not lifted.certain
    assert np.asarray(lifted.picture.getchannel("A"))[0, 0] == 0


def test_where_and_on_what_an_item_stands_hardly_changes_its_vector() -> None:
    drawing = renditions.load_rendition("flag:SE", "flag_icons")
    plain, scene = shipped.embed([drawing, on("#7a3b9a", drawing, 50)])
    assert plain @ scene > 0.95


def test_noise_is_left_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    assert lift(Image.fromarray(noise)) is None


def test_an_empty_picture_has_no_item() -> None:
    assert lift(Image.new("RGB", (50, 40), "white")) is None
    assert lift(Image.new("RGB", (1, 1), "white")) is None
