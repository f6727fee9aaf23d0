"""Whatever bytes arrive as a picture, the guard gives an upright RGB picture or one line that says why not."""

import asyncio
import base64
import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lensgraph.tools import guard


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A valid PNG header of any size with almost no data behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def refusal(data: bytes) -> str:
    with pytest.raises(guard.Refused) as caught:
        guard.open_image(data, name="x.png")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("x.png: ")
    assert caught.value.reason == "bad_input"
    return message


def test_a_bomb_of_900_million_pixels_is_refused_before_it_is_decoded() -> None:
    tracemalloc.start()
    assert "pixels" in refusal(bomb(30_000, 30_000))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_a_picture_over_our_cap_but_under_pillows_is_refused_with_its_size_and_no_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    assert "7500x7500 pixels is over the cap of 50,000,000" in refusal(bomb(7_500, 7_500))
    assert "9500x9500 pixels is over the cap of 50,000,000" in refusal(
        bomb(9_500, 9_500)
    )  # where Pillow alone would only warn
    assert not recwarn.list


def test_zero_bytes_a_text_file_and_random_bytes_are_named_as_such() -> None:
    assert "zero bytes" in refusal(b"")
    assert "not a picture; give PNG" in refusal(b"hello")
    assert "hello" not in refusal(b"hello"), "the bytes may be a file's that the caller cannot read"
    assert "not a picture" in refusal(bytes(range(256)) * 10)


def test_a_truncated_jpeg_is_refused() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    assert "truncated or damaged JPEG" in refusal(encoded(noise, "JPEG")[:4000])


def test_formats_that_nobody_asked_for_are_not_decoded() -> None:
    assert "not a picture" in refusal(encoded(Image.new("RGB", (4, 4)), "PPM"))
    assert "not a picture" in refusal(b"<svg xmlns='http://www.w3.org/2000/svg'/>")


def test_an_animated_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert guard.open_image(data).getpixel((4, 4)) == (255, 0, 0)


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = guard.open_image(data).getpixel((4, 4))
    assert red > 200
    assert green < 60
    assert blue < 60


def test_16_bit_grey_keeps_its_shades_instead_of_turning_white() -> None:
    ramp = (np.linspace(0, 65535, 256)[None, :].repeat(4, 0)).astype(np.uint16)
    picture = guard.open_image(encoded(Image.fromarray(ramp)))
    assert picture.getpixel((0, 0)) == (0, 0, 0)
    assert abs(picture.getpixel((128, 0))[0] - 128) <= 1
    assert picture.getpixel((255, 0)) == (255, 255, 255)


def test_an_exif_rotated_picture_stands_upright() -> None:
    picture = Image.new("RGB", (20, 10), "blue")
    picture.paste("red", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    upright = guard.open_image(encoded(picture, "JPEG", exif=exif.tobytes(), quality=95))
    assert upright.size == (10, 20)
    red, _, blue = upright.getpixel((5, 3))
    assert red > blue


def test_transparency_is_shown_on_white_in_every_mode() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert guard.open_image(encoded(clear)).getpixel((1, 1)) == (255, 255, 255)
    assert guard.open_image(encoded(clear.convert("LA"))).getpixel((1, 1)) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] * 256)
    assert guard.open_image(encoded(palette, transparency=0)).getpixel((1, 1)) == (255, 255, 255)
    assert guard.open_image(encoded(palette)).getpixel((1, 1)) == (10, 20, 30)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_one_pixel_of_any_mode_is_a_picture(mode: str) -> None:
    picture = guard.open_image(encoded(Image.new(mode, (1, 1))))
    assert (picture.size, picture.mode) == ((1, 1), "RGB")


def test_a_damaged_exif_block_costs_the_rotation_and_not_the_picture() -> None:
    data = encoded(Image.new("RGB", (8, 4), "red"), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xff")
    assert guard.open_image(data).size == (8, 4)


def test_metadata_does_not_travel_with_the_pixels() -> None:
    assert guard.open_image(encoded(Image.new("RGB", (4, 4)), "PNG", dpi=(300, 300))).info == {}


async def test_a_picture_is_read_from_a_path_bytes_a_data_uri_and_a_pil_image(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (3, 2), "red"))
    (tmp_path / "a.png").write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    for source in (data, bytearray(data), tmp_path / "a.png", uri, Image.new("RGBA", (3, 2))):
        picture = await guard.load_image(source)
        assert (picture.size, picture.mode) == ((3, 2), "RGB")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Path("/no/such/file.png"), "no such file"),
        (Path(), "not a file"),
        ("/etc/hostname", "in code a pathlib.Path"),
        ("data:image/png;base64,@@@", "broken base64"),
        ("data:image/png,abc", "not base64"),
        (Path("x" * 5000), "neither a path"),
        ("a\x00b", "in code a pathlib.Path"),
        (17, "cannot be a int"),
        (None, "cannot be a NoneType"),
    ],
)
async def test_what_is_no_picture_source_is_refused_in_one_line(source: object, words: str) -> None:
    with pytest.raises(guard.Refused, match=words) as caught:
        await guard.load_image(source)
    assert "\n" not in str(caught.value)


def test_pictures_are_opened_from_many_threads_at_once() -> None:
    """The warnings filter is shared by all threads; opening must not leave it changed."""
    import warnings

    before = list(warnings.filters)
    data = encoded(Image.new("RGB", (30, 30), "red"))

    async def many() -> list[Image.Image]:
        return await asyncio.gather(*(guard.load_image(data) for _ in range(64)))

    assert {picture.size for picture in asyncio.run(many())} == {(30, 30)}
    assert list(warnings.filters) == before
