"""Checkpoints as llama.cpp's files, read back with the reader of its authors. `.ci/servers` asks the real server."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.light.gguf_export import export
from lensgraph.agent.policy.light.weights import read_tensors
from lensgraph.graphs.program.main import main

POCKET = Path(checkpoint("pocket"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[GGUFReader, GGUFReader]:
    model, tower = export(POCKET, tmp_path_factory.mktemp("gguf"), "f32")
    return GGUFReader(model), GGUFReader(tower)


def values(file: GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in file.fields.items()}


def tensors(file: GGUFReader) -> dict[str, np.ndarray]:
    return {tensor.name: np.asarray(tensor.data) for tensor in file.tensors}


def test_every_weight_is_in_one_of_the_files_unchanged(files: tuple[GGUFReader, GGUFReader]) -> None:
    language, vision = map(tensors, files)
    ours = read_tensors(POCKET)
    np.testing.assert_array_equal(language["token_embd.weight"], ours["decoder.embed_tokens.weight"])
    np.testing.assert_array_equal(language["blk.5.attn_q.bias"], ours["decoder.layers.5.self_attn.q_proj.bias"])
    np.testing.assert_array_equal(vision["v.blk.3.ffn_down.weight"], ours["vision.blocks.3.mlp.down_proj.weight"])
    parts = [vision[f"v.blk.0.attn_{part}.weight"] for part in "qkv"]
    np.testing.assert_array_equal(np.concatenate(parts), ours["vision.blocks.0.attn.qkv.weight"])
    sizes = sum(tensor.size for tensor in ours.values())
    second_frame = vision["v.patch_embd.weight.1"]
    assert not second_frame.any()  # the kernel sees one frame
    assert sum(one.size for one in [*language.values(), *vision.values()]) == sizes + second_frame.size


def test_sizes_and_rotary_sections_are_the_checkpoints(files: tuple[GGUFReader, GGUFReader]) -> None:
    language, vision = map(values, files)
    assert (language["general.architecture"], language["qwen2vl.block_count"]) == ("qwen2vl", 6)
    assert language["qwen2vl.rope.dimension_sections"] == [8, 12, 12, 0]
    assert (language["qwen2vl.context_length"], language["qwen2vl.attention.head_count"]) == (4096, 3)
    assert (vision["general.type"], vision["clip.projector_type"]) == ("mmproj", "qwen2.5vl_merger")
    assert vision["clip.vision.n_wa_pattern"] == 0  # every block sees the whole picture
    assert vision["clip.vision.image_mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])


def test_the_tokenizer_comes_with_its_kinds_and_its_template(files: tuple[GGUFReader, GGUFReader]) -> None:
    found = values(files[0])
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(kinds) == 4096
    assert (tokens[4075], kinds[4075], found["tokenizer.ggml.eos_token_id"]) == ("<|im_end|>", 3, 4075)
    assert (tokens[4091], kinds[4091]) == ("</answer>", 4)  # a tag is text of the user's own, not a control token
    assert found["tokenizer.ggml.pre"] == "smollm"
    assert found["tokenizer.chat_template"] == (POCKET / "chat_template.jinja").read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"model_type": "qwen3_vl"}, "model_type is 'qwen3_vl'"),
        ("config.json", {"vision_config.fullatt_block_indexes": [1, 2]}, r"fullatt_block_indexes is \[1, 2\]"),
        ("config.json", {"vision_config.fullatt_block_indexes": [1, 3]}, "window_size is 840, llama.cpp's is 112"),
        ("tokenizer.json", {"pre_tokenizer.pretokenizers": [{"type": "Whitespace"}]}, "splits text at None"),
    ],
)
def test_what_llama_cpp_would_compute_differently_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, change: dict[str, Any], message: str
) -> None:
    folder = shutil.copytree(POCKET, tmp_path / "changed")
    content = json.loads((folder / file).read_text("utf-8"))
    for name, value in change.items():
        *above, last = name.split(".")
        place = content
        for part in above:
            place = place[part]
        place[last] = value
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(OSError, match=message):
        export(folder, tmp_path / "out")
    assert main(["export", "gguf", str(folder), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.part")) + list((tmp_path / "out").glob("mmproj.gguf"))


def test_the_command_says_how_to_serve_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "gguf", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [str(tmp_path / "model.gguf"), str(tmp_path / "mmproj.gguf")]
    assert said[2].endswith(f"lensgraph serve --engine llama_cpp policy.kind=openai_compatible policy.model={tmp_path}")
    half, whole = (tmp_path / "model.gguf").stat().st_size, sum(t.nbytes for t in read_tensors(POCKET).values())
    assert half < whole / 2 + 500_000
    assert {tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "model.gguf").tensors} == {"BF16", "F32"}
