"""A picture finds the pages that show the same thing, with the embedder the index was built with and no other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from lensgraph.tools.local.embedder.by_name import load_embedder
from lensgraph.tools.local.embedder.interface import EmbedderError, ImageEmbedder
from lensgraph.tools.local.index import origin
from lensgraph.tools.local.index.engine import LocalEngine
from lensgraph.tools.local.index.index_store import IndexStore, NoIndex, PageRow, PictureRow
from lensgraph.tools.local.search_pictures import LocalImageSearch


class MeanColour(ImageEmbedder):
    """Three numbers a person can check."""

    @property
    def dimension(self) -> int:
        return 3

    @property
    def fingerprint(self) -> str:
        return "mean"

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        rows = np.array([np.asarray(p, np.float32).reshape(-1, 3).mean(0) - 100 for p in pictures], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Retrained(MeanColour):
    """The same embedder after somebody trained it on."""

    @property
    def fingerprint(self) -> str:
        return "other"


MEAN, RETRAINED = f"{__name__}:MeanColour", f"{__name__}:Retrained"


def solid(colour: str) -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    store = IndexStore.create(tmp_path / "index")
    embedder = MeanColour()
    origin.record(store, MEAN, embedder.dimension, embedder.fingerprint)
    rows = [
        PictureRow("red1", "Red", "u:red", "page-red", b"thumb"),
        PictureRow("red2", "Red", "u:red", "page-red"),
        PictureRow("orange", "Orange", "u:orange"),
        PictureRow("blue", "Blue", "u:blue"),
    ]
    with store.transaction():
        store.add_pages([PageRow("page-red", "Red", "u:red", "Red is a colour.")])
        store.add_pictures(rows, embedder.embed([solid(c) for c in ("red", "darkred", "orange", "blue")]))
    store.finish()
    store.close()
    return tmp_path / "index"


async def test_the_nearest_pictures_come_first_and_pictures_of_one_page_are_one_hit(index: Path) -> None:
    result = await LocalImageSearch(index=index).search(solid("red"))
    assert result.error is None
    assert [hit.title for hit in result.hits] == ["Red", "Orange", "Blue"]
    best = result.hits[0]
    assert (best.url, best.snippet, best.thumbnail) == ("u:red", "Red is a colour.", b"thumb")
    assert best.score == pytest.approx(1.0, abs=1e-3)


async def test_k_counts_pages_and_not_pictures(index: Path) -> None:
    result = await LocalImageSearch(index=index, k=2).search(solid("red"))
    assert [hit.title for hit in result.hits] == ["Red", "Orange"]


def test_another_embedder_than_the_indexs_is_refused(index: Path) -> None:
    with pytest.raises(NoIndex, match="fingerprint mean, but the one loaded has fingerprint other"):
        LocalEngine.open(index, embedder=RETRAINED).search_image(solid("red"), 3)


async def test_an_index_without_pictures_says_so(tmp_path: Path) -> None:
    IndexStore.create(tmp_path / "index").close()
    result = await LocalImageSearch(index=tmp_path / "index").search(solid("red"))
    assert result.error is not None
    assert "holds no pictures" in result.error.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clip", "Unknown embedder 'clip'; valid: 'embedded', 'transformers:NAME', or an import path"),
        ("transformers:", "Unknown embedder"),
        ("no.such:Thing", "cannot be loaded"),
        ("lensgraph.tools.local.embedder.interface:Nothing", "cannot be loaded"),
        ("pathlib.x:Path", "cannot be loaded"),
        ("transformers:/no/such/folder", "cannot be loaded"),
    ],
)
def test_a_wrong_embedder_name_is_named_with_the_valid_ones(name: str, words: str) -> None:
    with pytest.raises(EmbedderError, match=words) as caught:
        load_embedder(name)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_no_embedder_is_refused() -> None:
    with pytest.raises(EmbedderError, match="subclass it"):
        load_embedder(f"{__name__}:dict_like")


def dict_like() -> dict[str, Any]:
    return {}


def tiny(kind: str) -> tuple[Any, int]:
    torch.manual_seed(0)
    if kind == "clip":
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision = {**text, "image_size": 32, "patch_size": 8}
        ids = {"vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2}
        return CLIPModel(CLIPConfig(text_config={**text, **ids}, vision_config=vision, projection_dim=24)), 24
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    if kind == "dinov2":
        return Dinov2Model(Dinov2Config(**sizes)), 32
    return ViTModel(ViTConfig(intermediate_size=16, **sizes)), 32


@pytest.mark.parametrize("kind", ["clip", "dinov2", "vit"])
def test_any_transformers_vision_model_is_an_embedder_by_its_folder(tmp_path: Path, kind: str) -> None:
    """Tiny models with random weights: shapes, preprocessing and pooling are real, the vectors mean nothing."""
    model, dimension = tiny(kind)
    model.save_pretrained(tmp_path)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    embedder = load_embedder(f"transformers:{tmp_path}")
    pictures = [solid("red"), solid("blue"), Image.new("RGB", (90, 20), "red")]
    vectors = embedder.embed(pictures)
    assert vectors.shape == (3, dimension) == (3, embedder.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])
    assert embedder.embed([]).shape == (0, dimension)
    assert embedder.fingerprint == load_embedder(f"transformers:{tmp_path}").fingerprint


def test_a_change_of_weights_or_of_preprocessing_changes_the_fingerprint(tmp_path: Path) -> None:
    model, _ = tiny("vit")
    prints = []
    for change in ("none", "weights", "preprocessing"):
        if change == "weights":
            with torch.no_grad():
                next(iter(model.parameters())).add_(0.1)
        model.save_pretrained(tmp_path)
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
            tmp_path
        )
        if change == "preprocessing":
            found = json.loads((tmp_path / "preprocessor_config.json").read_text())
            (tmp_path / "preprocessor_config.json").write_text(json.dumps({**found, "image_mean": [0.1, 0.1, 0.1]}))
        prints.append(load_embedder(f"transformers:{tmp_path}").fingerprint)
    assert len(set(prints)) == 3
