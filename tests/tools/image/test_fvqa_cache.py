"""The published FVQA cache replayed: pictures are recognised by their pixels, pickles are never run.

Layout checked against: the card of `lmms-lab/FVQA` (columns `data_id`, `images` of {bytes, path}; cache of data_id ->
titles and thumbnails, which are addresses or Pillow pictures).
"""

import base64
import io
import pickle
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from PIL import Image

from lensgraph.tools import guard
from lensgraph.tools.image import fvqa_cache, thumbnails
from lensgraph.tools.image.fvqa_cache import FvqaCacheImageSearch, fingerprint, read_cache, rebuilt
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.safe_pickle import Built

from .conftest import Answer, Service


def encoded(colour: str, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), colour).save(buffer, kind, **options)
    return buffer.getvalue()


def entry(*rows: tuple[str, Any]) -> dict[str, Any]:
    return {
        "tool_returned_web_title_list": [title for title, _ in rows],
        "tool_returned_images_urls": [picture for _, picture in rows],
    }


def folder_with(path: Path, cache: Any, pictures: dict[str, bytes]) -> Path:
    path.mkdir(exist_ok=True)
    name = "fvqa_test_image_search_results_cache.pkl"
    (path / name).write_bytes(cache if isinstance(cache, bytes) else pickle.dumps(cache))
    rows = [
        {"data_id": name, "images": [{"bytes": data, "path": None}], "prompt": []} for name, data in pictures.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), path / "fvqa_test.parquet")
    return path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSGRAPH_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    kept = Image.open(io.BytesIO(encoded("blue", quality=95)))  # a JpegImageFile, as the published pickles hold
    cache = {
        "fvqa_test_0": entry(("A red  barn", "https://example.org/1.jpg"), ("Barns", kept), ("Third", None), ("", "x")),
        "fvqa_test_1": entry(),
        "fvqa_test_9": entry(("Without a picture in the tables", None)),
    }
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    pictures = {
        "fvqa_test_0": encoded("red", exif=exif),
        "fvqa_test_1": encoded("green"),
        "fvqa_test_2": encoded("white"),
    }
    return folder_with(tmp_path / "fvqa", cache, {**pictures, "fvqa_test_3": b"no picture"})


async def test_a_picture_of_the_data_set_has_its_published_results(folder: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "red.jpg").write_bytes(encoded("red", exif=exif))
    result = await FvqaCacheImageSearch(folder=folder, k=3).search(tmp_path / "red.jpg")
    assert result.error is None
    assert [(hit.title, hit.url) for hit in result.hits] == [
        ("A red barn", "fvqa:fvqa_test_0/1"), ("Barns", "fvqa:fvqa_test_0/2"), ("Third", "fvqa:fvqa_test_0/3"),
    ]  # fmt: skip
    assert [hit.thumbnail is not None for hit in result.hits] == [False, True, False]
    assert result.hits[1].thumbnail is not None
    blue = guard.open_image(result.hits[1].thumbnail).getpixel((5, 5))
    assert blue == pytest.approx((0, 0, 255), abs=3)  # type: ignore[comparison-overlap]
    assert result.price == 0


@pytest.mark.parametrize("colour", ["white", "yellow"])
async def test_a_picture_without_an_entry_is_an_empty_result(folder: Path, colour: str) -> None:
    result = await FvqaCacheImageSearch(folder=folder).search(encoded(colour))
    assert result.error is not None
    assert result.error.reason == "empty"
    assert "not in the FVQA cache" in result.error.message


async def test_an_entry_without_results_is_an_empty_result(folder: Path) -> None:
    result = await FvqaCacheImageSearch(folder=folder).search(encoded("green"))
    assert result.error is not None
    assert result.error.reason == "empty"


async def test_a_crop_is_not_the_picture(folder: Path) -> None:
    crop = guard.open_image(encoded("red")).crop((0, 0, 20, 20))
    result = await FvqaCacheImageSearch(folder=folder).search(crop)
    assert result.error is not None
    assert result.error.reason == "empty"


async def test_thumbnails_known_by_address_are_fetched_only_when_asked_for(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer = Answer(encoded("black", "PNG"))
    cache = {"fvqa_test_0": entry(("A barn", f"{service.url}/1.png"), ("Gone", f"{service.url}/2.png"))}
    folder = folder_with(tmp_path / "fvqa", cache, {"fvqa_test_0": encoded("red")})
    offline = await FvqaCacheImageSearch(folder=folder).search(encoded("red"))
    assert [hit.thumbnail for hit in offline.hits] == [None, None]
    assert service.asked == []
    here = guard.FetchPolicy(
        ports=frozenset({int(service.url.rpartition(":")[2])}), networks=(ip_network("127.0.0.0/8"),)
    )
    monkeypatch.setattr(thumbnails, "POLICY", here)
    service.answer = lambda asked: Answer(encoded("black", "PNG")) if asked.path == "/1.png" else Answer(status=404)
    online = await FvqaCacheImageSearch(folder=folder, thumbnails=True).search(encoded("red"))
    assert [hit.thumbnail is not None for hit in online.hits] == [True, False]


async def test_the_tables_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FvqaCacheImageSearch(folder=folder).prepare()

    def unread(path: Path) -> Any:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(fvqa_cache, "_pictures", unread)
    assert (await FvqaCacheImageSearch(folder=folder).search(encoded("green"))).error is not None
    (folder / "fvqa_test.parquet").touch()  # another file of the same name
    result = await FvqaCacheImageSearch(folder=folder).search(encoded("green"))
    assert result.error is not None
    assert "was read again" in result.error.message


async def test_a_folder_without_the_files_says_how_to_get_them(tmp_path: Path) -> None:
    result = await FvqaCacheImageSearch(folder=tmp_path).search(encoded("red"))
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert "hf download lmms-lab/FVQA" in result.error.message


async def test_without_pyarrow_the_error_names_the_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = await FvqaCacheImageSearch(folder=folder).search(encoded("red"))
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert result.error.message == "FVQA's tables need pyarrow: pip install '.[fvqa]' in a clone of LensGraph."


class Evil:
    """A pickle that makes a file when it is run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (exec, (f"import pathlib; pathlib.Path({str(self.marker)!r}).touch()",))


@pytest.mark.parametrize("where", ["all", "entry", "title", "picture", "key"])
async def test_a_hostile_cache_is_refused_and_not_run(tmp_path: Path, where: str) -> None:
    marker = tmp_path / "touched"
    evil = Evil(marker)
    cache: Any = {
        "all": evil,
        "entry": {"fvqa_test_0": evil},
        "title": {"fvqa_test_0": entry((evil, None))},  # type: ignore[arg-type]
        "picture": {"fvqa_test_0": entry(("Barn", evil))},
        "key": {evil: entry(("Barn", None))},
    }[where]
    data = pickle.dumps(cache)
    folder = folder_with(tmp_path / "fvqa", data, {"fvqa_test_0": encoded("red")})
    result = await FvqaCacheImageSearch(folder=folder).search(encoded("red"))
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert "builtins.exec" in result.error.message
    assert "not executed" in result.error.message
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists()  # it is hostile


@pytest.mark.parametrize("cache", [b"", b"no pickle", pickle.dumps([1]), pickle.dumps({"a": 1}), pickle.dumps({1: {}})])
def test_a_file_that_is_no_cache_is_told(tmp_path: Path, cache: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(cache)
    with pytest.raises(ToolFailure, match=r"x\.pkl"):
        read_cache(tmp_path / "x.pkl")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_of_every_format_are_rebuilt_pixel_by_pixel(tmp_path: Path, kind: str, mode: str) -> None:
    source = Image.linear_gradient("L").resize((31, 17)).convert("RGB").convert(mode)
    buffer = io.BytesIO()
    try:
        source.save(buffer, kind, **({"dpi": (72, 72)} if kind in ("JPEG", "TIFF", "PNG") else {}))
    except (OSError, ValueError):
        pytest.skip(f"{kind} does not store {mode}")
    picture = Image.open(buffer)
    for protocol in (2, 4, 5):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": {"p": picture}}, protocol))
        record = read_cache(tmp_path / "x.pkl")["a"]["p"]
        assert isinstance(record, Built)
        again = rebuilt(record)
        assert again is not None
        assert fingerprint(guard.to_rgb(again)) == fingerprint(guard.to_rgb(pickle.loads(pickle.dumps(picture))))


@pytest.mark.parametrize(
    "state",
    [
        None, [], [{}, "RGB", (2, 2), None], [{}, "RGB", (2, 2), None, b"123"], [{}, "RGB", (10**6, 10**6), None, b""],
        [{}, "RGB", (-1, 2), None, b""], [{}, "I;16", (1, 1), None, b"12"], [{}, ["RGB"], (1, 1), None, b"123"],
        [{}, "RGB", "11", None, b"123"], [{}, "P", (1, 1), "odd", b"1" * 9], [{}, "RGB", (1, 1), None, "123"],
        [{}, "P", (1, 1), ["a"], b"1"],
    ],
)  # fmt: skip
def test_pictures_whose_parts_do_not_fit_are_left_out(state: Any) -> None:
    assert rebuilt(Built("PIL.Image.Image", (), state)) is None


class TestFvqaCache(ToolsIntegrationTests):
    tool_constructor = FvqaCacheImageSearch
    tool_invoke_params_example = {"image": f"data:image/jpeg;base64,{base64.b64encode(encoded('green')).decode()}"}

    @pytest.fixture
    def tool(self, folder: Path) -> BaseTool:
        return FvqaCacheImageSearch(folder=folder)
