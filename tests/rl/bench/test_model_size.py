"""The bench of published sizes runs, on the size that a CPU can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lensgraph.rl.__main__ import main
from lensgraph.rl.bench import model_size


def test_the_pocket_shape_goes_through_rollout_and_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--shape", "pocket", "--rollouts", "4", "--new-tokens", "6", "--batch", "2"]
    assert main(["model-size", *arguments, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["parameters"] == 6_076_864
    assert 0 < figures["update_share_of_matrix_rate"] < 1
    assert 0 < figures["rollout_share_of_matrix_rate"] < 1
    assert figures["sampled_tokens_per_second"] > 0
    assert "memory_gib" in capsys.readouterr().out


@pytest.mark.parametrize(("shape", "billions"), [("3b", 3.75), ("7b", 8.29)])
def test_published_shapes_have_the_published_size(shape: str, billions: float) -> None:
    """Counted without allocating anything; an untied head would add its rows again."""
    import torch

    from lensgraph.agent.pocket import WEIGHTS
    from lensgraph.agent.policy.qwen.processor import load_processor
    from lensgraph.rl.pocket import pocket_network as pocket

    with torch.device("meta"):
        network = pocket.build_network(
            load_processor(WEIGHTS), model_size.SHAPES[shape], vocabulary=model_size.VOCABULARY[shape]
        )
    counted = sum(weight.numel() for weight in network.parameters()) / 1e9
    assert counted == pytest.approx(billions, rel=0.07)
