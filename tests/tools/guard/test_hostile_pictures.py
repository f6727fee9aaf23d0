"""Pictures that lie about their size are refused before decoding, nothing but `Refused` is raised, and honest ones stay."""

import io
import json
import subprocess
import sys
from pathlib import Path

import hostile_pictures
import pictures_fuzz
import pytest
from check_commands import main
from PIL import Image

from lensgraph.tools import guard
from lensgraph.tools.guard import isolated

pytestmark = pytest.mark.contract

CHECKS = Path(hostile_pictures.__file__).parent
HONEST = pictures_fuzz.honest()
CHEAP = (
    "jpeg: 200 empty scans", "jpeg: 20,000 empty scans", "jpeg: two frame headers", "jpeg: arithmetic coding",
    "tiff: a second directory that is empty", "tiff: 60,000 directories", "tiff: a circle of directories",
    "tiff: strips that share 20 MB", "tiff: JPEG inside", "webp: a canvas of 7,000 x 7,000", "webp: 65,536 long codes",
    "webp: a million frames", "png: 49 million pixels of 16-bit RGBA", "png: a million empty chunks", "bmp: run lengths of one",
    "gif: 10 million comments of one byte", "gif: a frame of 60,000 x 60,000 on a screen of 10 x 10",
)  # fmt: skip
"""Pictures that must be refused, not read."""


def test_the_list_is_as_long_as_promised_and_knows_every_format() -> None:
    assert len(hostile_pictures.PICTURES) >= 40
    kinds = {name.partition(":")[0] for name in hostile_pictures.PICTURES}
    assert kinds >= {"png", "jpeg", "mpo", "tiff", "webp", "gif", "bmp"}


@pytest.mark.parametrize("name", CHEAP)
def test_a_picture_that_hides_its_cost_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(guard.Refused) as caught:
        guard.open_image(hostile_pictures.PICTURES[name](), name="x")
    assert "\n" not in str(caught.value)


def test_a_tile_larger_than_its_picture_is_refused() -> None:
    with pytest.raises(guard.Refused, match="tiles of 3000x3000 pixels behind a picture of 10x10"):
        guard.open_image(hostile_pictures.tile_bomb(3_000))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_hostile_picture_costs_at_most_three_seconds_and_500_mb() -> None:
    """In a program of its own: a child's peak counts its parent's memory too, and a test run's own may be over the limit."""
    program = [sys.executable, str(CHECKS), "hostile-pictures", "--json"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(json.loads(done.stdout)) == len(hostile_pictures.PICTURES)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_measurement_can_fail() -> None:
    """A guard that takes its time, one that takes memory, and one that raises are all noticed."""
    program = """
import hostile_pictures as h
from lensgraph.tools import guard
h.SECONDS, h.MEMORY = 0.2, 50_000_000
def slow(data, name):
    started = h._spent()
    while h._spent() < started + 0.5: pass
def large(data, name):
    kept.append(b"x" * 80_000_000)
def raw(data, name):
    raise TypeError("raw")
kept = []
for guard.open_image in (slow, large, raw):
    print(h.measure("x", b"").passed)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKS, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["False", "False", "False"]


def test_mutated_pictures_are_read_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pictures-fuzz", "--count", "330", "--seed", "1"]) == 0
    assert "330 mutated pictures" in capsys.readouterr().out


def test_the_fuzz_can_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def raw(data: bytes, name: str) -> None:
        raise TypeError("raw")

    monkeypatch.setattr(guard, "open_image", raw)
    assert main(["pictures-fuzz", "--count", "2"]) == 1
    assert "2 raw exceptions" in capsys.readouterr().out


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_picture_has_the_pixels_that_pillow_reads(name: str) -> None:
    plain = guard.to_rgb(Image.open(io.BytesIO(HONEST[name])))
    picture = guard.open_image(HONEST[name])
    assert type(picture) is Image.Image
    assert (picture.size, picture.mode) == (plain.size, "RGB")
    assert picture.tobytes() == plain.tobytes()


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_of_exif_is_undone(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(buffer, "PNG", exif=exif)
    assert guard.open_image(buffer.getvalue()).tobytes() == guard.to_rgb(Image.open(buffer)).tobytes()


def test_an_orientation_in_xmp_is_undone() -> None:
    buffer = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (40, 30)).save(buffer, "JPEG", xmp=xmp)
    assert guard.open_image(buffer.getvalue()).size == (30, 40)


def test_large_pictures_are_converted_in_strips_with_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {name: guard.open_image(data).tobytes() for name, data in HONEST.items()}
    monkeypatch.setattr("lensgraph.tools.guard.check_pictures.STRIP_PIXELS", 300)
    assert {name: guard.open_image(data).tobytes() for name, data in HONEST.items()} == whole


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_lossless_webp_of_unknown_cost_is_read_in_a_process_of_its_own(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = isolated.decode
    monkeypatch.setattr(isolated, "decode", lambda *given: asked.append(given) or real(*given))
    buffer = io.BytesIO()
    Image.effect_noise((900, 800), 90).convert(mode).save(buffer, "WEBP", lossless=True, method=0)
    picture = guard.open_image(buffer.getvalue())
    assert len(asked) == 1
    assert picture.tobytes() == guard.to_rgb(Image.open(buffer)).tobytes()


def test_what_is_kept_of_a_picture_is_what_was_checked() -> None:
    """Trailing bytes, metadata and other frames are no part of the file that decoders get."""
    for name in ("jpeg", "png RGB", "webp"):
        first = guard.first_picture(HONEST[name] + b"PK\3\4 trailing")
        assert b"maker" in HONEST[name]
        assert b"maker" not in first.data
        assert (first.orientation, first.bare, first.rgb) == (6, False, True)
        assert Image.open(io.BytesIO(first.data)).size == (40, 30)
