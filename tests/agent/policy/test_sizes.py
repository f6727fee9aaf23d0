"""The sizes at which a policy sees pictures, as its checkpoint saw them.

MMSearch-R1's released rollout: a picture of the question is RGB, scaled by the nearest neighbour into [512*512, 672*672*2]
pixels with the fractions of a side cut off; thumbnails are not scaled. DeepMMSearch-R1's paper names no size.
"""

import base64
import io
import math
from typing import Any

import pytest
from PIL import Image

from lensgraph.agent import config, testing
from lensgraph.agent.dialects.base import image_block, thumbnail_block
from lensgraph.agent.dialects.table import DIALECTS, build
from lensgraph.agent.images import ImageStore, View, view_size
from lensgraph.graphs import search_agent
from lensgraph.tools.results import Hit

SMALLEST, LARGEST = 512 * 512, 672 * 672 * 2
SEARCHES = ["<reason>r</reason><search><img></search>", "<reason>r</reason><answer>1987</answer>"]


def noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def shown(block: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(block["base64"])))


def upstream(image: Image.Image) -> Image.Image:
    """The rule of the reference, written out."""
    for limit, wrong in ((LARGEST, int.__gt__), (SMALLEST, int.__lt__)):
        if wrong(image.width * image.height, limit):
            scale = math.sqrt(limit / (image.width * image.height))
            image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.NEAREST)
    return image


async def pictures_of(question: Image.Image, thumbnails: list[Image.Image], **fields: Any) -> list[Image.Image]:
    """The messages that the policy is shown in its last turn."""
    hits = []
    for number, image in enumerate(thumbnails):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        hits.append(Hit(title=f"page {number}", url=f"https://example.org/{number}", thumbnail=buffer.getvalue()))
    context = testing.context(SEARCHES, image_search=testing.FixedImage(hits=hits), **fields)
    await search_agent.graph.ainvoke({"question": "When?", "images": [question]}, context=context)
    last = context.policy.seen[-1]
    blocks = [block for message in last if isinstance(message.content, list) for block in message.content]
    return [shown(block) for block in blocks if block["type"] == "image"]


@pytest.mark.parametrize(
    "size", [(60, 40), (511, 511), (512, 512), (800, 600), (951, 950), (1600, 1200), (40, 3000), (1, 1)]
)
async def test_mmsearch_r1_sees_pictures_of_the_question_in_the_sizes_of_its_training(size: tuple[int, int]) -> None:
    picture = noise(*size)
    (seen, *_) = await pictures_of(picture, [], dialect="mmsearch_r1")
    assert seen.mode == "RGB"
    assert seen.size == upstream(picture).size
    assert seen.tobytes() == upstream(picture).tobytes(), "pixel by pixel"


async def test_mmsearch_r1_sees_thumbnails_as_they_came() -> None:
    thumbnails = [noise(16, 16), noise(225, 180), noise(640, 480)]
    question, *seen = await pictures_of(noise(60, 40), thumbnails, dialect="mmsearch_r1")
    assert question.size == (627, 418)
    assert [one.tobytes() for one in seen] == [one.tobytes() for one in thumbnails]


async def test_one_picture_may_be_both_question_and_thumbnail() -> None:
    picture = noise(60, 40)
    question, thumbnail = await pictures_of(picture, [picture], dialect="mmsearch_r1")
    assert (question.size, thumbnail.size) == ((627, 418), (60, 40))


@pytest.mark.parametrize("dialect", ["compact", "deepmmsearch_r1"])
async def test_where_no_size_is_published_small_pictures_stay_as_they_are(dialect: str) -> None:
    turns = ["<img_search><img></img_search>", "<answer>1987</answer>"]
    context = testing.context(turns, dialect=dialect)
    await search_agent.graph.ainvoke({"question": "When?", "images": [noise(60, 40)]}, context=context)
    block = next(block for block in context.policy.seen[0][0].content if block["type"] == "image")
    assert shown(block).size == (60, 40)


def test_the_configured_largest_size_rules() -> None:
    dialect = build("mmsearch_r1")
    assert dialect.view(image_block("x"), 30_000) == View(30_000, 30_000, nearest=True)
    assert dialect.view(thumbnail_block("x"), 30_000) == View(30_000)
    assert config.load_config("mmsearch_r1", environ={}).images.view_pixels == LARGEST
    assert {name: one.smallest_picture for name, one in DIALECTS.items()} == {
        "compact": 0, "deepmmsearch_r1": 0, "mmsearch_r1": SMALLEST, "tools": 0,
    }  # fmt: skip


def test_a_photograph_that_is_not_scaled_is_sent_as_it_came_and_a_scaled_one_without_loss() -> None:
    store = ImageStore()
    buffer = io.BytesIO()
    noise(600, 500).save(buffer, "JPEG")
    photo = store.add(buffer.getvalue())
    assert store.view(photo["id"], *View(LARGEST, SMALLEST, nearest=True)) == (buffer.getvalue(), "image/jpeg")
    assert store.view(photo["id"], *View(100_000, nearest=True))[1] == "image/png"
    assert store.view(photo["id"], *View(100_000))[1] == "image/jpeg"


def test_the_same_picture_in_two_sizes_is_kept_twice() -> None:
    store = ImageStore()
    picture = store.add_image(noise(60, 40))["id"]
    small, large = View(LARGEST), View(LARGEST, SMALLEST, nearest=True)
    assert shown(store.block(picture, *small)).size == (60, 40)
    assert store.cached_block(picture, *large) is None
    assert shown(store.block(picture, *large)).size == (627, 418)
    assert view_size(1, 5000, 100) == (4, 707)  # never a sliver
