"""Trajectories survive a kill, come back as they were, and become training data."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.qwen.processor import PictureProcessor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Renderer
from lensgraph.rl.__main__ import main
from lensgraph.rl.evaluation.trajectories.export import export
from lensgraph.rl.evaluation.trajectories.stats import stats
from lensgraph.rl.pocket import pocket_network as pocket
from lensgraph.rl.pocket.pocket_network import PocketSize
from lensgraph.rl.rollout.length_budget import ended
from lensgraph.rl.rollout.recording import steps_of, tokens_of
from lensgraph.rl.rollout.trajectory import (
    Said,
    Seen,
    Trajectory,
    TrajectoryStep,
    TrajectoryStore,
    dump_trajectory,
    load_trajectory,
)


def _png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (56, 56), colour).save(out, "PNG")
    return out.getvalue()


def _said(role: str, text: str, *pictures: str) -> Said:
    return Said(role, (*({"type": "image", "id": one} for one in pictures), {"type": "text", "text": text}))


def _trajectory(number: int = 0, **changes: object) -> Trajectory:
    search = {"kind": "image_search", "region": None}
    steps = (
        TrajectoryStep(
            "reason", "image_search", 1, 0.5, 0.0, text="<img_search><img></img_search>", action=search, tokens=(4, 6),
        ),
        TrajectoryStep(
            "image_search", "reason", 1, 0.2, 0.01, query="<whole picture>",
            hits=({"title": "Kenya", "url": "u", "snippet": "", "score": 0.9},),
            crop={"id": "b", "box": (1, 2, 3, 4)},
        ),
        TrajectoryStep(
            "reason", "answer", 2, 0.4, 0.0, text="<answer>x</answer>", action={"kind": "answer", "text": "x"},
            tokens=(8, 10),
        ),
    )  # fmt: skip
    fields: dict[str, object] = {
        "id": f"t{number}#0", "task": f"t{number}", "family": "image", "knowledge": "unknown", "question": "What?",
        "golds": ("x",), "graph": "search_agent", "dialect": "compact", "policy": "p", "temperature": 1.0,
        "answer": "x", "correct": True, "stop_reason": "answered", "well_formed": True, "steps": steps,
        "messages": (_said("user", "What?", "a"), _said("assistant", "s"), _said("user", "r", "b"), _said("assistant", "x")),
        "pictures": (Seen("a", (1, 2, 2)), Seen("b", (1, 4, 2))),
        "ids": tuple(range(10)), "mask": (0, 0, 0, 0, 1, 1, 0, 0, 1, 1), "logprobs": (0.0,) * 4 + (-1.5,) * 6,
        "reward": {"total": 0.91, "match": 1.0}, "step": 3,
    }  # fmt: skip
    return Trajectory(**{**fields, **changes})  # type: ignore[arg-type]


PICTURES = {"a": _png("red"), "b": _png("blue")}


def test_a_record_comes_back_as_it_was() -> None:
    trajectory = replace(_trajectory(), steps=(*_trajectory().steps,))
    again = load_trajectory(json.loads(json.dumps(dump_trajectory(trajectory))))
    assert dump_trajectory(again) == json.loads(json.dumps(dump_trajectory(trajectory))) | {
        name: dump_trajectory(again)[name]
        for name in ("golds", "steps", "messages", "pictures", "ids", "mask", "logprobs")
    }
    assert again.steps[0] == trajectory.steps[0]
    assert again.calls() == {"image_search": 1}
    assert [step.kind for step in again.decisions] == ["image_search", "answer"]


def test_what_the_policy_was_not_shown_is_told() -> None:
    """Thumbnails left out for want of context, results cut for want of tokens."""
    common = {"seconds": 0.1, "price": 0.0}
    spoken = {"node": "reason", "turn": 1, "text": "t", "action": {"kind": "text_search"}, "left_out": ["p"], **common}
    searched = {"node": "text_search", "turn": 1, "query": "q", "hits": [], "cut_off": 2, **common}
    steps = steps_of({"steps": [spoken, searched]}, [(3, 5)])
    assert [(step.left_out, step.cut_off, step.tokens) for step in steps] == [(("p",), 0, (3, 5)), ((), 2, None)]
    whole = replace(_trajectory(), steps=steps)
    assert load_trajectory(json.loads(json.dumps(dump_trajectory(whole)))).steps == steps


@pytest.mark.parametrize(("turns", "nodes", "said"), [(1, ["reason", "image_search"], 2), (0, [], 1)])
def test_what_came_after_the_row_was_never_said(turns: int, nodes: list[str], said: int) -> None:
    """The search that the last turn asked for was made, and counts; the answer that nobody can train on was not given."""
    whole = _trajectory()
    one = ended(whole, turns)
    assert (one.answer, one.correct, one.well_formed, one.stop_reason) == (None, False, False, StopReason.TOKEN_LIMIT)
    assert [step.node for step in one.steps] == nodes
    assert len(one.messages) == said
    assert one.steps == () or one.steps[-1].edge is None
    assert sum(one.calls().values()) == turns
    assert one.messages == whole.messages[:said]


def test_a_tool_that_failed_behind_the_row_is_not_the_rows() -> None:
    down = TrajectoryStep("text_search", "reason", 2, 0.1, 0.0, query="q", hits=(), error="unavailable: no connection")
    whole = _trajectory()
    later = _trajectory(steps=(*whole.steps[:2], whole.steps[0], down, whole.steps[2]))
    assert later.failed_tools()
    assert not ended(later, 1).failed_tools()
    assert ended(later, 2).failed_tools()


def test_another_version_or_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        load_trajectory({**dump_trajectory(_trajectory()), "version": 99})
    with pytest.raises(ValueError, match="unknown fields: extra"):
        load_trajectory({**dump_trajectory(_trajectory()), "extra": 1})
    with pytest.raises(ValueError, match="must be as many"):
        _trajectory(mask=(1,))


def test_pictures_are_kept_once_and_before_the_line_that_names_them(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    with pytest.raises(ValueError, match="was not given"):
        store.append(_trajectory(), {"a": PICTURES["a"]})
    assert list(tmp_path.glob("trajectories-*.jsonl")) == []
    store.append(_trajectory(), PICTURES)
    store.append(_trajectory(1), {})  # they are there already
    assert sorted(path.name for path in store.pictures.iterdir()) == ["a", "b"]
    assert [trajectory.id for trajectory in store] == ["t0#0", "t1#0"]
    assert store.picture("a") == PICTURES["a"]


def test_half_a_line_is_forgotten_and_the_next_one_is_whole(tmp_path: Path) -> None:
    store = TrajectoryStore(tmp_path)
    store.append(_trajectory(), PICTURES)
    with store.path.open("a") as file:
        file.write('{"id": "cut off by a ki')
    assert [trajectory.id for trajectory in TrajectoryStore(tmp_path)] == ["t0#0"]
    TrajectoryStore(tmp_path).append(_trajectory(1), PICTURES)
    assert [trajectory.id for trajectory in TrajectoryStore(tmp_path)] == ["t0#0", "t1#0"]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    store, other = TrajectoryStore(tmp_path), TrajectoryStore(tmp_path, writer=1)
    for step in (0, 1, 2, 3):
        store.append(_trajectory(step, step=step), PICTURES)
    other.append(_trajectory(9, step=3), PICTURES)
    assert store.forget(2) == 2
    assert [one.step for one in store] == [0, 1, 3]
    store.append(_trajectory(2, step=2), {})
    assert [one.step for one in TrajectoryStore(tmp_path)] == [0, 1, 2, 3]


def test_a_run_that_goes_on_with_fewer_processes_forgets_for_those_that_are_gone(tmp_path: Path) -> None:
    for writer in (0, 1, 2):
        for step in (0, 1):
            TrajectoryStore(tmp_path, writer=writer).append(_trajectory(10 * writer + step, step=step), PICTURES)
    assert TrajectoryStore(tmp_path, writer=1).forget(1, processes=2) == 1  # its own only
    assert TrajectoryStore(tmp_path).forget(1, processes=2) == 2  # its own, and the third's, which nobody else will
    assert [one.step for one in TrajectoryStore(tmp_path)] == [0, 0, 0]


def test_writers_do_not_share_a_file(tmp_path: Path) -> None:
    for writer in (0, 1):
        TrajectoryStore(tmp_path, writer=writer).append(_trajectory(writer), PICTURES)
    assert len(list(TrajectoryStore(tmp_path))) == 2


def test_a_kill_loses_at_most_the_trajectory_that_is_being_written(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]);"
        "from tests.rl.rollout.test_trajectory import PICTURES, _trajectory;"
        "from lensgraph.rl.rollout.trajectory import TrajectoryStore;"
        "from pathlib import Path; import itertools;"
        "store = TrajectoryStore(Path(sys.argv[1]));"
        "[(store.append(_trajectory(n), PICTURES), print(n, flush=True)) for n in itertools.count()]"
    )
    root = str(Path(__file__).parents[3])
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), root], stdout=subprocess.PIPE, text=True, cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert child.stdout is not None
    confirmed = 0
    for line in child.stdout:
        confirmed = int(line)
        if confirmed >= 40:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    rest = [int(line) for line in child.stdout.read().split()]
    confirmed = max([confirmed, *rest])
    kept = [trajectory.task for trajectory in TrajectoryStore(tmp_path)]
    assert kept[: confirmed + 1] == [f"t{n}" for n in range(confirmed + 1)]
    assert len(kept) <= confirmed + 2


def test_the_statistics_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = TrajectoryStore(tmp_path)
    store.append(_trajectory(), PICTURES)
    store.append(_trajectory(1, correct=False, reward={"total": 0.1}), PICTURES)
    figures = stats(store)
    assert (figures["episodes"], figures["accuracy"]) == (2, 0.5)
    assert figures["reward"] == pytest.approx(0.505)
    assert figures["nodes"]["image_search"]["price"] == 0.01
    assert figures["decisions"]["reason"]["answer"] == {"count": 2, "accuracy": 0.5, "reward": pytest.approx(0.505)}
    assert figures["edges"]["reason -> image_search"] == 2
    assert main(["trajectories", "stats", str(tmp_path)]) == 0
    assert main(["trajectories", "show", str(tmp_path), "t0#0"]) == 0
    shown = capsys.readouterr().out
    assert "image_search" in shown
    assert "box (1, 2, 3, 4)" in shown
    assert re.search(r"reason\s*│\s*answer\s*│\s*2", shown)
    assert main(["trajectories", "stats", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2


def test_an_export_is_what_sft_takes(tmp_path: Path) -> None:
    from datasets import load_from_disk

    store = TrajectoryStore(tmp_path / "store")
    store.append(_trajectory(), PICTURES)
    store.append(_trajectory(1, correct=False), PICTURES)
    assert export(store, tmp_path / "out.jsonl", right=True) == 1
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant"]
    assert [Path(name).read_bytes() for name in row["images"]] == [PICTURES["a"], PICTURES["b"]]
    assert all(Path(name).is_absolute() for name in row["images"])
    assert export(store, tmp_path / "data") == 2
    data = load_from_disk(str(tmp_path / "data"))
    assert set(data.column_names) == {"messages", "images"}
    assert data[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert [part["type"] for part in data[0]["messages"][0]["content"]] == ["image", "text"]


@pytest.mark.parametrize("form", ["folder", "jsonl"])
def test_trl_s_own_trainer_learns_the_policys_turns_from_an_export_and_nothing_else(
    tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the help of `export` says, and from any working folder; also next to rows without a picture."""
    from datasets import load_dataset, load_from_disk
    from trl import SFTConfig, SFTTrainer

    store = TrajectoryStore(tmp_path / "store")
    for number in range(4):
        store.append(_trajectory(number), PICTURES)
    blind = (_said("user", "hello"), _said("assistant", "<answer>x</answer>"))
    store.append(_trajectory(4, messages=blind, pictures=()), {})
    monkeypatch.chdir(tmp_path)
    if form == "folder":
        export(store, Path("data"))
    else:
        Path("kept").mkdir()
        export(store, Path("kept/out.jsonl"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    network = pocket.build_network(processor, PocketSize(**tiny_size))
    before = network.lm_head.weight.detach().clone()
    options = SFTConfig(
        output_dir=str(tmp_path / "run"), max_steps=1, per_device_train_batch_size=5, max_length=None, use_cpu=True,
        bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no", learning_rate=1e-2,
        assistant_only_loss=True,
    )  # fmt: skip
    if form == "folder":
        data = load_from_disk(str(tmp_path / "data"))
    else:
        files = str(tmp_path / "kept" / "out.jsonl")
        data = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    trainer = SFTTrainer(model=network, args=options, train_dataset=data, processing_class=processor)
    (batch,) = trainer.get_train_dataloader()
    labelled = [
        processor.tokenizer.decode([token for token in row.tolist() if token != -100]) for row in batch["labels"]
    ]
    own = "s<|im_end|>x<|im_end|>"
    assert sorted(labelled) == sorted([own] * 4 + ["<answer>x</answer><|im_end|>"])
    trainer.train()
    assert not torch.equal(network.lm_head.weight, before)


def test_half_of_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    """A page or a turn may hold one, and UTF-8 has no bytes for it; the run goes on, and the record comes back as it was."""
    store = TrajectoryStore(tmp_path)
    odd = _trajectory(answer="\ud83d", question="é", messages=(_said("user", "\udc00", "a"), _said("assistant", "x")))
    store.append(odd, PICTURES)
    store.append(_trajectory(1, step=5), PICTURES)
    assert [one.answer for one in store] == ["\ud83d", "x"]
    assert store.forget(4) == 1
    (kept,) = store
    assert (kept.answer, kept.question, kept.messages[0].text) == ("\ud83d", "é", "\udc00")
    assert export(store, tmp_path / "out.jsonl") == 1


def test_trajectories_are_recorded_once(
    tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """An untrained policy never gets to a tool; what it says is kept all the same."""
    size = PocketSize(**tiny_size)
    pocket.save(pocket.build_network(processor, size), processor, tmp_path / "policy")
    settings = ["--limit", "3", "--rollouts", "2", f"policy.model={tmp_path / 'policy'}", "policy.max_new_tokens=6"]
    assert main(["trajectories", "record", "--out", str(tmp_path / "kept"), *settings]) == 0
    kept = list(TrajectoryStore(tmp_path / "kept"))
    assert len({one.id for one in kept}) == len(kept) == 6
    assert all(sum(one.mask) for one in kept)
    assert main(["trajectories", "record", "--out", str(tmp_path / "kept"), *settings]) == 0
    assert len(list(TrajectoryStore(tmp_path / "kept"))) == 6
    assert "0 trajectories added" in capsys.readouterr().out


def test_each_policy_and_graph_of_a_folder_is_recorded_by_itself_and_rewarded(
    tmp_path: Path, processor: PictureProcessor, tiny_size: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also another training of the same name; the reward is that of the recipe that is named."""
    size, kept = PocketSize(**tiny_size), TrajectoryStore(tmp_path / "kept")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("steps: 3\nreward: {format_weight: 0.5}\n")
    settings = ["--limit", "2", f"policy.model={tmp_path / 'policy'}", "policy.max_new_tokens=6"]
    settings += ["--out", str(tmp_path / "kept"), "--recipe", str(recipe)]
    for seed in (0, 1):
        pocket.save(pocket.build_network(processor, size, seed=seed), processor, tmp_path / "policy")
        assert main(["trajectories", "record", *settings]) == 0
    assert main(["trajectories", "record", *settings, "--graph", "direct"]) == 0
    made = list(kept)
    assert len(made) == 6
    first, second = sorted({one.policy for one in made}, key=[one.policy for one in made].index)
    assert [one.policy for one in made] == [first] * 2 + [second] * 4
    for one in made:
        assert one.reward is not None
        assert one.reward["total"] == 0.5 * one.correct + 0.5 * one.well_formed
    capsys.readouterr()
    assert main(["trajectories", "stats", str(tmp_path / "kept"), "--json", "--policy", first]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 2
    assert main(["trajectories", "show", str(tmp_path / "kept"), "--policy", "nobody"]) == 2
    assert "no policy 'nobody'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["record", "--out", "{}", "--tasks", "world/nothing"], "world/nothing"),
        (["record", "--out", "{}", "--recipe", "nothing"], "no recipe 'nothing'"),
        (["record", "--out", "{}", "polcy.model=x"], "polcy"),
        (["record", "--out", "{}", "--graph", "nothing"], "package.module:attribute"),
        (["stats", "{}/nothing"], "no trajectories there"),
        (["show", "{}", "t9#0"], "no trajectory 't9#0'"),
        (["export", "{}", "{}"], "exists"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TrajectoryStore(tmp_path).append(_trajectory(), PICTURES)
    assert main(["trajectories", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert says in capsys.readouterr().err


def test_ten_thousand_random_turns_come_back_id_by_id(renderer: Renderer) -> None:
    """Byte-level ids do not survive decoding and encoding; they are never put through it."""
    rng, policy = random.Random(0), TransformersPolicy(model="none")
    policy._renderer = renderer
    vocabulary = [n for n in range(len(renderer.tokenizer)) if n != renderer.eos and n not in renderer.picture_tokens()]
    mismatches = encoded_again = 0
    for _ in range(2500):
        said: list[list[int]] = []
        messages: list[HumanMessage | AIMessage] = []
        for _ in range(4):
            ids = rng.choices(vocabulary, k=rng.randint(1, 16))
            ids = ids if rng.random() < 0.3 else [*ids, renderer.eos]
            said.append(ids)
            text = renderer.tokenizer.decode(ids)
            metadata = {"token_ids": ids, "logprobs": [-0.5] * len(ids)}
            messages += [HumanMessage("What is this?"), AIMessage(text, response_metadata=metadata)]
            encoded_again += renderer.tokenizer.encode(text, add_special_tokens=False) != ids
        rendered, logprobs, spans = tokens_of(messages, policy)
        mismatches += sum(rendered.ids[a:b] != ids for (a, b), ids in zip(spans, said, strict=True))
        assert sum(rendered.mask) == sum(map(len, said))
        assert all((mask == 1) == (logprob == -0.5) for mask, logprob in zip(rendered.mask, logprobs, strict=True))
    assert mismatches == 0
    assert encoded_again > 5000  # so the test can fail
