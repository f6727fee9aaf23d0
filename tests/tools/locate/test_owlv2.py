"""OWLv2 behind the locator interface: real code path, a tiny model with random weights.

What is tested is the boundary: text in, tensors through, boxes out in pixels. What a trained checkpoint finds is not.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from PIL import Image
from provider_contract.providers.image_google_vision import PICTURE
from transformers import (
    CLIPTokenizer,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    Owlv2TextConfig,
    Owlv2VisionConfig,
)

from lensgraph.tools.locate.owlv2 import Owlv2Locator, prompt
from lensgraph.tools.registry import build
from lensgraph.tools.results import Box

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owl")
    torch.manual_seed(0)
    words = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config=Owlv2TextConfig(
            vocab_size=len(words), max_position_embeddings=16, bos_token_id=53, eos_token_id=54, pad_token_id=0, **small
        ).to_dict(),
        vision_config=Owlv2VisionConfig(image_size=64, patch_size=16, **small).to_dict(),
        projection_dim=16,
    )
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token="!", model_max_length=16
    )
    images = Owlv2ImageProcessorPil(size={"height": 64, "width": 64})
    Owlv2Processor(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("missing", ["torch", "transformers"])
async def test_a_missing_library_is_named_with_its_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    result = await Owlv2Locator().locate(Image.new("RGB", (120, 80), "red"), "the red flag")
    assert result.error is not None
    assert result.error.reason == "unavailable"
    assert result.error.message == f"OWLv2 needs {missing}: pip install '.[hub]' in a clone of LensGraph."


async def test_boxes_come_back_inside_the_picture_best_first(checkpoint: Path) -> None:
    locator = Owlv2Locator(model=str(checkpoint), box_threshold=0, max_regions=4, device="cpu")
    result = await locator.locate(Image.new("RGB", (120, 80), "red"), "The red flag.")
    assert result.error is None
    assert 1 <= len(result.regions) <= 4
    scores = [region.score for region in result.regions]
    assert scores == sorted(scores, reverse=True)
    picture = Box(left=0, top=0, right=120, bottom=80)
    assert all(region.box.intersect(picture) == region.box for region in result.regions)
    assert {region.label for region in result.regions} == {"The red flag"}


async def test_the_boxes_fit_a_picture_that_was_padded_to_a_square(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OWLv2 sees the picture in the corner of a square: a box over that square's upper half is the whole of a wide picture."""
    locator = Owlv2Locator(model=str(checkpoint), device="cpu")
    processor, model = locator._load()

    def found(**_: Any) -> Any:
        boxes = torch.tensor([[[0.5, 0.25, 1.0, 0.5], [0.25, 0.125, 0.25, 0.25]]])  # centre and size, of the square
        return SimpleNamespace(logits=torch.tensor([[[5.0], [3.0]]]), pred_boxes=boxes)

    stand_in = SimpleNamespace(config=model.config, device=model.device)
    monkeypatch.setattr(locator, "_loaded", (processor, _Callable(found, stand_in)))
    result = await locator.locate(Image.new("RGB", (200, 100)), "a barn")
    assert [region.box.ltrb for region in result.regions] == [(0, 0, 200, 100), (25, 0, 75, 50)]


class _Callable:
    """A model that answers what it is told."""

    def __init__(self, answer: Any, like: Any) -> None:
        self.answer, self.config, self.device = answer, like.config, like.device

    def __call__(self, **inputs: Any) -> Any:
        return self.answer(**inputs)


async def test_a_phrase_longer_than_the_text_encoder_is_cut(checkpoint: Path) -> None:
    locator = Owlv2Locator(model=str(checkpoint), box_threshold=0, device="cpu")
    result = await locator.locate(Image.new("RGB", (60, 60)), "a very long description of a thing " * 10)
    assert result.error is None


async def test_nothing_above_the_threshold_is_an_empty_result(checkpoint: Path) -> None:
    result = await Owlv2Locator(model=str(checkpoint), box_threshold=1.0, device="cpu").locate(
        Image.new("RGB", (120, 80)), "the cat"
    )
    assert result.error is not None
    assert result.error.reason == "empty", result.error


async def test_a_checkpoint_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    locator = build("locate", {"use": "owlv2", "model": str(tmp_path)})
    result = await locator.locate(Image.new("RGB", (120, 80)), "the cat")  # type: ignore[attr-defined]
    assert result.error.reason == "unavailable"
    assert "OWLv2" in result.error.message
    assert str(tmp_path) in result.error.message


def test_the_phrase_is_written_as_the_model_was_trained() -> None:
    assert prompt("  The Red  Flag. ") == "a photo of red flag"
    assert prompt("a cat") == "a photo of cat"


class TestOwlv2(ToolsIntegrationTests):
    tool_constructor = Owlv2Locator
    tool_invoke_params_example = {"image": PICTURE, "expression": "the flag"}

    @pytest.fixture
    def tool(self, checkpoint: Path) -> BaseTool:
        return Owlv2Locator(model=str(checkpoint), box_threshold=0, device="cpu")
