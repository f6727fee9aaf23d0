"""The image store: content addresses, crops with their lineage, views for the policy."""

import hashlib
import io
import re
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from lensgraph.agent.errors import BadInput
from lensgraph.agent.images import ImageStore, view_size
from lensgraph.tools import guard
from lensgraph.tools.guard import Refused
from lensgraph.tools.locate.qwen import shrunk
from lensgraph.tools.results import Box


@pytest.fixture
def store() -> ImageStore:
    return ImageStore()


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 90).convert("RGB")


def test_an_id_is_the_hash_of_the_stored_bytes(store: ImageStore) -> None:
    picture = store.add_image(noise(40, 30))
    assert picture["id"] == hashlib.sha256(store.bytes(picture["id"])).hexdigest()
    assert store.add_image(store.open(picture["id"]))["id"] == picture["id"], "the same pixels are one picture"


@pytest.mark.parametrize(("form", "kept"), [("PNG", True), ("JPEG", True), ("WEBP", True), ("BMP", False)])
def test_plain_bytes_are_kept_as_they_came(store: ImageStore, encoded: object, form: str, kept: bool) -> None:
    data = encoded(noise(40, 30), form)  # type: ignore[operator]
    picture = store.add(data)
    assert (store.bytes(picture["id"]) == data) is kept
    assert picture["mime_type"] == (f"image/{form.lower()}" if kept else "image/png")


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGBA"])
def test_other_pixel_formats_are_stored_as_rgb(store: ImageStore, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (9, 9)).save(buffer, "TIFF")
    stored = Image.open(io.BytesIO(store.bytes(store.add(buffer.getvalue())["id"])))
    assert (stored.mode, stored.format) == ("RGB", "PNG")


def test_a_crop_is_a_box_on_the_original(store: ImageStore) -> None:
    original = noise(100, 80)
    picture = store.add_image(original)
    crop = store.crop(picture, Box(left=10, top=20, right=70, bottom=60))
    assert (crop["parent"], crop["box"]) == (picture["id"], [10, 20, 70, 60])
    assert store.open(crop["id"]).tobytes() == original.crop((10, 20, 70, 60)).tobytes()


def test_a_crop_of_a_crop_maps_back_to_original_pixels(store: ImageStore) -> None:
    original = noise(100, 80)
    picture = store.add_image(original)
    outer = store.crop(picture, Box(left=10, top=20, right=70, bottom=60))
    inner = store.crop(outer, Box(left=5, top=5, right=25, bottom=15))
    assert (inner["parent"], inner["box"]) == (picture["id"], [15, 25, 35, 35])
    assert store.open(inner["id"]).tobytes() == original.crop((15, 25, 35, 35)).tobytes()


def test_a_box_that_sticks_out_is_clipped_and_one_outside_is_refused(store: ImageStore) -> None:
    picture = store.add_image(noise(100, 80))
    assert store.crop(picture, Box(left=-5, top=70, right=500, bottom=500))["box"] == [0, 70, 100, 80]
    with pytest.raises(ValueError, match="no area"):
        store.crop(picture, Box(left=200, top=0, right=300, bottom=10))


def test_a_view_is_under_the_cap_and_keeps_the_shape(store: ImageStore) -> None:
    picture = store.add_image(noise(400, 200))
    view = Image.open(io.BytesIO(store.view(picture["id"], 20_000)[0]))
    assert view.size == (200, 100)
    assert store.view(picture["id"], 400 * 200)[0] == store.bytes(picture["id"]), "no needless encoding"


@pytest.mark.parametrize(("width", "height"), [(50_000, 251), (251, 50_000), (200, 1), (1999, 10)])
@pytest.mark.parametrize(("largest", "smallest"), [(903_168, 0), (10_000, 0), (903_168, 100_000)])
def test_no_view_is_a_sliver(width: int, height: int, largest: int, smallest: int) -> None:
    """Cutting off fractions makes a long picture longer; a view is still one that Qwen-VL's processors take."""
    wide, high = view_size(width, height, largest, smallest)
    assert max(wide, high) <= 200 * min(wide, high)
    assert shrunk(width, height, largest) == view_size(width, height, largest)


@pytest.mark.parametrize("size", [(201, 1), (2, 5000)])
def test_a_sliver_is_refused_however_it_comes(store: ImageStore, size: tuple[int, int], encoded: object) -> None:
    sliver = Image.new("RGB", size)
    with pytest.raises(guard.Refused, match="is a sliver"):
        store.add_image(sliver)
    with pytest.raises(guard.Refused, match="is a sliver"):
        store.add(encoded(sliver, "PNG"))  # type: ignore[operator]
    store.add_image(Image.new("RGB", (200, 1)))


def test_a_view_is_encoded_once(store: ImageStore) -> None:
    picture = store.add_image(noise(400, 200))
    assert store.cached_block(picture["id"], 20_000) is None
    block = store.block(picture["id"], 20_000)
    assert store.block(picture["id"], 20_000) is block


def test_a_view_carries_no_location(store: ImageStore, encoded: object) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010F] = "a camera"
    data = encoded(noise(40, 30), "JPEG", exif=exif)  # type: ignore[operator]
    picture = store.add(data)
    view, mime_type = store.view(picture["id"], 10**6)
    assert (mime_type, dict(Image.open(io.BytesIO(view)).getexif())) == ("image/jpeg", {})


@pytest.mark.parametrize("largest", [10**6, 600])
@pytest.mark.parametrize("lossless", [True, False])
def test_a_policy_is_shown_webp_as_png_with_the_same_pixels(
    store: ImageStore, encoded: object, lossless: bool, largest: int
) -> None:
    picture = store.add(encoded(noise(40, 30), "WEBP", lossless=lossless))  # type: ignore[operator]
    view, mime_type = store.view(picture["id"], largest)
    shown = Image.open(io.BytesIO(view))
    assert (mime_type, shown.format, picture["mime_type"]) == ("image/png", "PNG", "image/webp")
    whole = store.open(picture["id"])
    assert shown.tobytes() == whole.resize(shown.size, Image.Resampling.BICUBIC).tobytes()


def test_a_folder_keeps_pictures_for_another_process(tmp_path: Path) -> None:
    identity = ImageStore(tmp_path).add_image(noise(40, 30))["id"]
    assert ImageStore(tmp_path).picture(identity)["width"] == 40
    assert [path.name for path in tmp_path.iterdir()] == [identity]


def test_memory_is_bounded_and_the_longest_unused_goes_first() -> None:
    store = ImageStore(memory_bytes=40_000)
    first, *_, last = [store.add_image(noise(64, 64))["id"] for _ in range(6)]
    assert store.bytes(last)
    with pytest.raises(BadInput, match=r"not in the image store any more; send it again, or set images\.folder"):
        store.bytes(first)


def test_an_id_cannot_name_a_file_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(BadInput):
        ImageStore(tmp_path / "store").bytes("../secret")


async def test_a_picture_is_taken_in_every_form(store: ImageStore, tmp_path: Path, encoded: object) -> None:
    import base64

    image = noise(40, 30)
    data = encoded(image, "PNG")  # type: ignore[operator]
    (tmp_path / "a.png").write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    forms = [image, data, bytearray(data), tmp_path / "a.png", uri]
    taken = [await store.take(form) for form in forms]
    assert {(picture["width"], picture["height"]) for picture in taken} == {(40, 30)}
    assert (await store.take(taken[1]["id"]))["id"] == taken[1]["id"]


async def test_a_path_as_text_is_read_only_where_files_are_open(tmp_path: Path, encoded: object) -> None:
    """Text may come from a stranger; a `Path` can only be made by the program's own code."""
    (tmp_path / "open").mkdir()
    for path in (tmp_path / "open" / "a.png", tmp_path / "b.png"):
        path.write_bytes(encoded(noise(40, 30), "PNG"))  # type: ignore[operator]
    inside, outside = str(tmp_path / "open" / "a.png"), str(tmp_path / "b.png")
    for path in (inside, outside, str(tmp_path / "none.png"), "~/a.png", "file:///etc/passwd"):
        with pytest.raises(Refused, match="paths are turned off here"):
            await ImageStore().take(path)
    folder = ImageStore(local_files=tmp_path / "open")
    assert (await folder.take(inside))["width"] == (await folder.take("a.png"))["width"] == 40
    with pytest.raises(Refused, match="outside the folder"):
        await folder.take(outside)
    assert (await ImageStore(local_files=True).take(outside))["width"] == 40
    assert (await ImageStore().take(Path(outside)))["width"] == 40


async def test_no_error_shows_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("root:hunter2:0:0")
    for source, files in ((tmp_path / "notes.png", False), ("notes.png", tmp_path)):
        with pytest.raises(Refused, match=r"^notes\.png: not a picture; give") as caught:
            await ImageStore(local_files=files).take(source)
        assert not re.search("root|hunter|16", str(caught.value)), "neither content nor size"


async def test_a_file_that_does_not_answer_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded: object
) -> None:
    release = threading.Event()
    monkeypatch.setattr("lensgraph.tools.guard.read_files.READ_SECONDS", -0.9)
    monkeypatch.setattr(guard, "read_file", lambda *given: release.wait(30))
    started = time.monotonic()
    try:
        with pytest.raises(Refused, match="not read within"):
            await ImageStore().take(tmp_path / "a.png")
    finally:
        release.set()
    assert time.monotonic() - started < 5


def test_a_stored_picture_is_the_checked_file_without_metadata() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(buffer, "JPEG", comment=b"taken at home", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    store = ImageStore()
    kept = store.bytes(store.add(buffer.getvalue() + b"behind the end")["id"])
    assert b"taken at home" not in kept
    assert b"Exif" not in kept
    assert Image.open(io.BytesIO(kept)).size == (8, 6)
