"""Grounding DINO behind the locator interface: real code path, a tiny model with random weights.

What is tested is the boundary: text in, tensors through, boxes out in pixels. What a trained checkpoint finds is not.
"""

import sys
from pathlib import Path

import pytest
import torch
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from PIL import Image
from provider_contract.providers.image_google_vision import PICTURE
from transformers import (
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    SwinConfig,
)

from lensgraph.tools.locate.detector import clipped
from lensgraph.tools.locate.grounding_dino import GroundingDinoLocator, prompt
from lensgraph.tools.results import Box

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] . ? the red flag cat".split()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    stages = {"out_features": ["stage2", "stage3", "stage4"], "out_indices": [2, 3, 4]}
    sizes = {"embed_dim": 8, "depths": [1] * 4, "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(**sizes, **stages),
        text_config=BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **text),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=10, max_text_len=64,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("missing", ["torch", "transformers"])
async def test_a_missing_library_is_named_with_its_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    result = await GroundingDinoLocator().locate(Image.new("RGB", (120, 80), "red"), "the red flag")
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert result.error.message == f"Grounding DINO needs {missing}: pip install '.[hub]' in a clone of LensGraph."


async def test_boxes_come_back_inside_the_picture_best_first(checkpoint: Path) -> None:
    locator = GroundingDinoLocator(
        model=str(checkpoint), box_threshold=0, text_threshold=0, max_regions=4, device="cpu"
    )
    result = await locator.locate(Image.new("RGB", (120, 80), "red"), "The red flag")
    assert result.error is None
    assert 1 <= len(result.regions) <= 4
    scores = [region.score for region in result.regions]
    assert scores == sorted(scores, reverse=True)
    picture = Box(left=0, top=0, right=120, bottom=80)
    assert all(region.box.intersect(picture) == region.box for region in result.regions)
    assert "[SEP]" not in result.regions[0].label


async def test_nothing_above_the_threshold_is_an_empty_result(checkpoint: Path) -> None:
    locator = GroundingDinoLocator(model=str(checkpoint), box_threshold=1.0, device="cpu")
    result = await locator.locate(Image.new("RGB", (120, 80)), "the cat")
    assert result.error is not None
    assert result.error.reason == "empty", result.error


async def test_a_checkpoint_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    result = await GroundingDinoLocator(model=str(tmp_path)).locate(Image.new("RGB", (120, 80)), "the cat")
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert str(tmp_path) in result.error.message


def test_the_phrase_is_written_as_the_model_was_trained() -> None:
    assert prompt("  The Red  Flag. ") == "the red flag."


def test_boxes_are_clipped_to_the_picture_and_dropped_outside() -> None:
    assert clipped([-5.2, 3.4, 20.6, 90.0], (20, 50)) == Box(left=0, top=3, right=20, bottom=50)
    assert clipped([30.0, 0.0, 40.0, 10.0], (20, 50)) is None
    assert clipped([3.1, 0.0, 3.2, 10.0], (20, 50)) is None


class TestGroundingDino(ToolsIntegrationTests):
    tool_constructor = GroundingDinoLocator
    tool_invoke_params_example = {"image": PICTURE, "expression": "the flag"}

    @pytest.fixture
    def tool(self, checkpoint: Path) -> BaseTool:
        return GroundingDinoLocator(model=str(checkpoint), box_threshold=0, text_threshold=0, device="cpu")
