"""Boxes that the policy draws: the grounding format of Qwen2.5-VL, from the pixels it saw to those of the original.

Checked against: the Qwen2.5-VL cookbook on 2D grounding (`bbox_2d` in absolute pixels of the processed picture, `label`) and
transformers' own `smart_resize`.
"""

import http.server
import io
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from lensgraph.agent.actions import SearchByImage
from lensgraph.agent.config import Config
from lensgraph.agent.dialects.table import build as build_dialect
from lensgraph.agent.images import ImageStore
from lensgraph.tools.locate.policy_boxes import PolicyBoxLocator, boxes
from lensgraph.tools.locate.qwen import scaled, shrunk
from lensgraph.tools.locate.served_policy import ServedPolicyLocator
from lensgraph.tools.registry import ToolConfigError, build
from lensgraph.tools.results import Box

PICTURE = Image.new("RGB", (1120, 560))  # 40 x 20 tokens: Qwen2.5-VL sees it as it is
BOX = '{"bbox_2d": [112, 56, 560, 280], "label": "the tower"}'


@pytest.mark.parametrize(
    "text",
    [
        BOX,
        f"[{BOX}]",
        f"```json\n[\n\t{BOX}\n]\n```",
        f"The tower is here: {BOX} as asked.",
        '[{"bbox_2d": [112.0, 56.4, 559.8, 280], "label": "the tower"}, {"bbox_2d": [1, 2',  # cut short
        '{"label": "the tower", "bbox": [112, 56, 560, 280]}',
        '{"bbox_2d": [560, 280, 112, 56], "label": "the tower"}',  # corners the wrong way round
    ],
)
async def test_a_box_is_read_in_every_spelling(text: str) -> None:
    result = await PolicyBoxLocator().locate(PICTURE, text)
    assert result.error is None, result.error
    assert [(region.box.ltrb, region.label, region.score) for region in result.regions] == [
        ((112, 56, 560, 280), "the tower", 1.0)
    ]


async def test_bare_numbers_are_a_box_without_a_label() -> None:
    result = await PolicyBoxLocator().locate(PICTURE, "[112, 56, 560, 280]")
    assert [(region.box.ltrb, region.label) for region in result.regions] == [((112, 56, 560, 280), "")]


async def test_several_boxes_stay_in_their_order() -> None:
    text = json.dumps([{"bbox_2d": [n, n, n + 10, n + 10], "label": str(n)} for n in range(9)])
    assert [region.label for region in (await PolicyBoxLocator(max_regions=3).locate(PICTURE, text)).regions] == [
        "0", "1", "2",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["the red flag", '{"bbox_2d": "here"}', '{"bbox_2d": [1, 2, 3]}', "[1, 2]", "{}",
                                  '{"bbox_2d": [1, 2, 3, true]}', '{"bbox_2d": [1, 2, 3, 1e99]}', "[NaN, 1, 2, 3]"])  # fmt: skip
async def test_words_are_refused_with_the_format(text: str) -> None:
    result = await PolicyBoxLocator().locate(PICTURE, text)
    assert result.error is not None
    assert result.error.reason == "bad_input"
    assert '{"bbox_2d": [x1, y1, x2, y2]}' in result.error.message


async def test_a_box_is_clipped_to_the_picture_and_empty_outside() -> None:
    result = await PolicyBoxLocator().locate(PICTURE, "[1000, 500, 5000, 5000]")
    assert result.regions[0].box.ltrb == (1000, 500, 1120, 560)
    for outside in ("[2000, 10, 3000, 20]", "[10, 10, 10, 10]", "[-50, -50, -1, -1]"):
        result = await PolicyBoxLocator().locate(PICTURE, outside)
        assert result.error is not None
        assert result.error.reason == "empty"


SIZES = [(640, 480), (1000, 37), (3, 5), (4000, 3000), (5712, 4284), (28, 28), (951, 951), (20, 3000)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("limits", [(3136, 12845056), (256 * 28 * 28, 1280 * 28 * 28)])
def test_the_size_the_model_sees_is_that_of_transformers(size: tuple[int, int], limits: tuple[int, int]) -> None:
    width, height = size
    high, wide = smart_resize(height, width, factor=28, min_pixels=limits[0], max_pixels=limits[1])
    assert scaled(width, height, factor=28, least=limits[0], most=limits[1]) == (wide, high)


@pytest.mark.parametrize("size", SIZES)
async def test_a_box_around_a_thing_comes_back_around_it(size: tuple[int, int]) -> None:
    """A box over the middle half of the picture seen covers the middle half of the original."""
    width, height = size
    locator = PolicyBoxLocator()
    shown = shrunk(width, height, locator.view_pixels)
    high, wide = smart_resize(
        shown[1], shown[0], factor=28, min_pixels=locator.min_pixels, max_pixels=locator.max_pixels
    )
    text = json.dumps({"bbox_2d": [wide / 4, high / 4, wide * 3 / 4, high * 3 / 4], "label": "it"})
    result = await locator.locate(Image.new("RGB", size), text)
    box = result.regions[0].box
    expected = (width / 4, height / 4, width * 3 / 4, height * 3 / 4)
    assert all(abs(found - wanted) <= 0.5 for found, wanted in zip(box.ltrb, expected, strict=True))


def test_a_picture_over_the_agents_cap_is_measured_as_the_agent_shows_it() -> None:
    """4000 x 3000 is shown as 1097 x 823, which the processor makes 1092 x 812."""
    assert shrunk(4000, 3000, 672 * 672 * 2) == (1097, 823)
    assert PolicyBoxLocator().seen(4000, 3000) == (1092, 812)


async def test_thousandths_are_read_where_the_model_writes_them() -> None:
    locator = PolicyBoxLocator(coordinates="thousandths")
    result = await locator.locate(Image.new("RGB", (400, 200)), '{"bbox_2d": [100, 100, 500, 1000]}')
    assert result.regions[0].box.ltrb == (40, 20, 200, 200)


async def test_a_sliver_is_refused() -> None:
    result = await PolicyBoxLocator().locate(Image.new("RGB", (3000, 2)), BOX)
    assert result.error is not None
    assert result.error.reason == "bad_input"
    assert "200-fold" in result.error.message


async def test_words_go_to_another_locator_where_there_is_one() -> None:
    picture = Image.new("RGB", (200, 100), "white")
    picture.paste("red", (20, 20, 60, 60))
    picture.paste("blue", (120, 20, 160, 60))
    locator = build("locate", {"use": "policy_boxes", "words": {"use": "local"}})
    assert isinstance(locator, PolicyBoxLocator)
    by_words = await locator.locate(picture, "the item on the left")
    assert by_words.regions[0].box.iou(Box(left=20, top=20, right=60, bottom=60)) > 0.8
    by_box = await locator.locate(picture, "[0, 0, 10, 10]")
    assert by_box.error is None
    with pytest.raises(ToolConfigError, match="unknown provider 'nothing'"):
        build("locate", {"use": "policy_boxes", "words": {"use": "nothing"}})


def test_a_long_hostile_text_is_read_quickly() -> None:
    import time

    started = time.perf_counter()
    for text in ("{" * 100_000, "[1," * 50_000, '{"bbox_2d": [' + "1," * 50_000, "[" + " " * 100_000):
        assert boxes(text) == []
    assert time.perf_counter() - started < 5


class Server:
    """An OpenAI-compatible server that answers what it is told."""

    def __init__(self) -> None:
        self.url, self.status = "", 200
        self.answer: Any = {"choices": [{"message": {"role": "assistant", "content": f"```json\n[{BOX}]\n```"}}]}
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            state.headers.append(dict(self.headers))
            state.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps(state.answer).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    http_ = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http_.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{http_.server_port}/v1"
    yield state
    http_.shutdown()
    http_.server_close()


async def test_a_served_model_is_shown_the_picture_and_draws_the_box(server: Server) -> None:
    locator = build(
        "locate", {"use": "served_policy", "base_url": server.url, "model": "qwen", "api_key": "sk-local-key"}
    )
    result = await locator.locate(PICTURE, "the tower {left}")  # type: ignore[attr-defined]
    assert result.error is None
    assert [(region.box.ltrb, region.label) for region in result.regions] == [((112, 56, 560, 280), "the tower")]
    (asked,) = server.asked
    image, question = asked["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert "the tower {left}" in question["text"]
    assert (asked["model"], asked["temperature"]) == ("qwen", 0)
    assert server.headers[0]["Authorization"] == "Bearer sk-local-key"


async def test_a_large_picture_is_shown_within_the_cap_and_its_box_is_scaled_back(server: Server) -> None:
    server.answer = {"choices": [{"message": {"content": '[{"bbox_2d": [0, 0, 546, 406], "label": "corner"}]'}}]}
    result = await ServedPolicyLocator(base_url=server.url, model="qwen").locate(
        Image.new("RGB", (4000, 3000)), "corner"
    )
    assert result.regions[0].box.ltrb == (0, 0, 2000, 1500)
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (200, {"choices": [{"message": {"content": "[]"}}]}, "empty"),
        (200, {"choices": [{"message": {"content": None}}]}, "malformed"),
        (200, {"choices": []}, "malformed"),
        (200, [], "malformed"),
        (400, {"object": "error", "message": "This model's maximum context length is 8192 tokens."}, "bad_input"),
        (404, {"message": "The model `qwen` does not exist."}, "bad_input"),
        (500, {}, "unavailable"),
    ],
)
async def test_every_failure_of_the_server_has_its_reason(
    server: Server, status: int, answer: Any, reason: str
) -> None:
    server.status, server.answer = status, answer
    locator = ServedPolicyLocator(base_url=server.url, model="qwen", backoff=0.01)
    result = await locator.locate(PICTURE, "the tower")
    assert result.error is not None
    assert result.error.reason == reason


@pytest.mark.parametrize("size", SIZES)
def test_the_agent_shows_pictures_at_the_size_that_is_assumed_here(size: tuple[int, int]) -> None:
    images = Config().images
    assert PolicyBoxLocator().view_pixels == images.view_pixels
    store = ImageStore()
    data, _ = store.view(store.add_image(Image.new("RGB", size))["id"], images.view_pixels)
    assert Image.open(io.BytesIO(data)).size == shrunk(*size, images.view_pixels)


@pytest.mark.parametrize("text", [BOX, f"[{BOX}]", f"```json\n[\n{BOX}\n]\n```"])
async def test_a_box_passes_through_the_protocol_that_names_regions(text: str) -> None:
    dialect = build_dialect("deepmmsearch_r1")
    turn = f"<reason>The tower is cut off.</reason><img_search>{text}</img_search>"
    for action in (dialect.read(turn), dialect.read_leniently(turn)):
        assert isinstance(action, SearchByImage)
        result = await PolicyBoxLocator().locate(PICTURE, action.region or "")
        assert result.regions[0].box.ltrb == (112, 56, 560, 280)
