"""safetensors files read without safetensors: the same numbers as the library gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lensgraph.tools.runtime.tensors import read_safetensors


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_every_float_becomes_the_nearest_float32(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    extremes = torch.tensor([0.0, -0.0, 65504.0, -1e-7, 6e-8, float("inf")])
    given = {"a": torch.randn(3, 5, 2).to(getattr(torch, kind)), "b": extremes.to(getattr(torch, kind))}
    save_file(given, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x.safetensors")
    assert set(found) == {"a", "b"}
    for name, tensor in given.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], tensor.float().numpy())
        found[name] += 1  # they are the reader's own


def test_integers_stay_integers_and_scalars_and_nothing_are_read(tmp_path: Path) -> None:
    given = {"n": torch.tensor(7), "none": torch.zeros(0, 4), "bytes": torch.arange(6, dtype=torch.uint8)}
    save_file(given, tmp_path / "x.safetensors")
    found = read_safetensors(tmp_path / "x.safetensors")
    assert (found["n"].dtype, found["n"].shape, int(found["n"])) == (np.int64, (), 7)
    assert found["none"].shape == (0, 4)
    assert found["bytes"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_file_that_is_cut_off_or_something_else_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"wide": torch.randn(20, 20)}, path)
    whole = path.read_bytes()
    table = json.dumps({"wide": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 1600]}}).encode()
    broken = [
        whole[:-4], whole[:40], whole[:3], b"", b"version https://git-lfs.github.com/spec/v1\n" * 3,
        len(table).to_bytes(8, "little") + table + bytes(1600),
        (9).to_bytes(8, "little") + b'{"a": {}}', (8).to_bytes(8, "little") + b'{"a": 1}', (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{[",
    ]  # fmt: skip
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(OSError, match=r"x\.safetensors: .*again") as caught:
            read_safetensors(path)
        assert "\n" not in str(caught.value)


def test_a_type_it_does_not_know_is_named(tmp_path: Path) -> None:
    save_file({"mask": torch.ones(2, dtype=torch.bool)}, tmp_path / "x.safetensors")
    with pytest.raises(OSError, match="mask is of type BOOL; save the checkpoint in one of F64, F32"):
        read_safetensors(tmp_path / "x.safetensors")
