"""Every family of the table is served and trained: what is trained is what was sampled, id for id and picture for picture.

The checkpoints are tiny and random (`tests/checks/tiny_checkpoints.py`). One family runs by default, all others with `-m slow`.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image
from tiny_checkpoints import TINY
from trl import GRPOConfig

from lensgraph.agent.actions import SearchByImage, SearchByText
from lensgraph.agent.config import ConfigError, PolicyConfig, load_config
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.dialects.table import build as build_dialect
from lensgraph.agent.policy import build, hub_processor
from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.families.picture_batch import picture_inputs
from lensgraph.agent.policy.qwen.batching import StaticBatching
from lensgraph.agent.policy.qwen.processor import load_processor
from lensgraph.agent.policy.qwen.transformers_policy import TransformersPolicy
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.agent.policy.sampled import Sampled
from lensgraph.agent.testing import PAGE, FixedImage, FixedLocator, FixedText
from lensgraph.rl import train
from lensgraph.rl.grpo.build_trainer import load_policy
from lensgraph.rl.grpo.build_trainer import lora as peft_of
from lensgraph.rl.grpo.generation import GraphRollouts
from lensgraph.rl.grpo.grpo_recipe import GRPORecipe
from lensgraph.rl.grpo.grpo_trainer import GraphGRPOTrainer
from lensgraph.rl.network import checkpointing
from lensgraph.rl.network.collate import check_pictures
from lensgraph.rl.rollout.episode import RolloutSetup
from lensgraph.rl.rollout.trajectory import Said, Seen, Trajectory, TrajectoryStore
from lensgraph.rl.supervised import train_supervised as sft
from lensgraph.rl.supervised.sft_recipe import SFTRecipe
from lensgraph.rl.tasks import Task

DEFAULT = "qwen3_vl"
"""The family that runs by default."""
TRAINED = [name for name, family in families.FAMILIES.items() if family.trained]


def _marked(names: Sequence[str]) -> list[Any]:
    return [name if name == DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of a family's checkpoint, made once."""
    root = tmp_path_factory.mktemp("families")

    def folder(kind: str) -> Path:
        if not (root / kind).is_dir():
            (root / kind).mkdir()
            TINY[kind](root / kind)
        return root / kind

    return folder


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = random.Random(seed)
    return Image.frombytes("RGB", (width, height), rng.randbytes(3 * width * height))


def _asked(*pictures: Image.Image) -> HumanMessage:
    blocks: list[Any] = [{"type": "image", "image": picture} for picture in pictures]
    return HumanMessage([*blocks, {"type": "text", "text": "Which country is it?"}])


# --- served


@pytest.mark.parametrize("kind", _marked(list(families.FAMILIES)))
def test_a_dialogue_is_what_the_family_s_own_processor_makes_of_it(kind: str, made: Any) -> None:
    """The ids, and every tensor of a picture."""
    renderer, stock = Renderer(load_processor(made(kind))), hub_processor.load_processor(str(made(kind)))
    pictures = [_noise(90, 60), _noise(60, 100, 1)]
    if kind == "llava_onevision":  # shows several pictures of one text more coarsely, which a growing text cannot
        del pictures[1]
    rendered = renderer.render([_asked(*pictures)])
    chat = [{"role": "user", "content": [*({"type": "image", "image": one} for one in pictures),
                                         {"type": "text", "text": "Which country is it?"}]}]  # fmt: skip
    wanted = stock.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert rendered.ids == wanted["input_ids"][0].tolist()
    found = picture_inputs(families.FAMILIES[kind], [rendered], torch.tensor([rendered.ids]), renderer.image_pad)
    for name, value in found.items():
        if name in wanted:
            assert torch.equal(value, wanted[name]), name
    assert "pixel_values" in found
    check_pictures(rendered, renderer)


@pytest.mark.parametrize("kind", _marked(list(families.FAMILIES)))
def test_sampled_turns_have_the_log_probabilities_of_a_whole_forward(kind: str, made: Any) -> None:
    """Three dialogues of different lengths together, over two turns, one of them without a picture at first."""
    policy = build(PolicyConfig(kind="transformers", model=str(made(kind)), max_new_tokens=5, temperature=1.0))
    assert isinstance(policy, TransformersPolicy)
    renderer, network = policy.renderer, policy.network
    dialogues: list[list[Any]] = [[_asked(_noise(90, 60))], [HumanMessage("no picture here")], [_asked(_noise(50, 50))]]
    for number in range(2):
        rows = [renderer.render(dialogue) for dialogue in dialogues]
        for dialogue, row, turn in zip(dialogues, rows, policy.sample(rows), strict=True):
            assert 1 <= len(turn.ids) == len(turn.logprobs) <= 5
            whole = _alone(network, renderer, Rendered(row.ids + turn.ids, [], row.pixels))
            assert turn.logprobs == pytest.approx(whole[-len(turn.ids) :].tolist(), abs=1e-4)
            dialogue += [AIMessage("x", response_metadata={"token_ids": turn.ids}), _asked(_noise(60, 60, number))]
    greedy = policy.model_copy(update={"temperature": 0.0})
    seen = [
        greedy.invoke([_asked(picture)]).response_metadata["logprobs"][0]
        for picture in (_noise(60, 60), _noise(60, 60), Image.new("RGB", (60, 60)))
    ]
    assert seen[0] == pytest.approx(seen[1], abs=1e-6)
    assert abs(seen[0] - seen[2]) > 1e-4, "the answer depends on the picture"
    pieces = list(greedy.stream([_asked(_noise(60, 60))]))
    assert "".join(str(piece.content) for piece in pieces) == greedy.invoke([_asked(_noise(60, 60))]).content


@pytest.mark.parametrize("kind", _marked(list(families.FAMILIES)))
def test_no_text_from_outside_ends_a_turn_or_announces_a_picture(kind: str, made: Any) -> None:
    renderer = Renderer(load_processor(made(kind)))
    marks = [token.content for token in renderer.tokenizer.added_tokens_decoder.values() if token.special]
    assert renderer.tokenizer.decode([renderer.eos]) in marks
    plain, hostile = (renderer.render([HumanMessage(text)]).ids for text in ("a page", "a page " + " ".join(marks)))
    special = set(renderer.tokenizer.convert_tokens_to_ids(marks))
    assert [i for i in plain if i in special] == [i for i in hostile if i in special]
    assert renderer.image_pad in renderer.picture_tokens()


def _alone(network: Any, renderer: Renderer, row: Rendered) -> torch.Tensor:
    """Log-probabilities of every token but the first, in one forward over the row alone, unpadded."""
    ids = torch.tensor([row.ids])
    inputs = picture_inputs(families.of(network), [row], ids, renderer.image_pad)
    with torch.inference_mode():
        logits = network(input_ids=ids, **inputs).logits[0, :-1].float().log_softmax(-1)
    return logits.gather(1, torch.tensor(row.ids[1:])[:, None])[:, 0]


# --- trained


class Searcher:
    """Says random ids and well-formed turns of a dialect, so that pictures stand in the completions too."""

    def __init__(self, renderer: Renderer, dialect: Dialect) -> None:
        self.renderer, self.dialect, self.rng = renderer, dialect, random.Random(0)

    def sample(self, batch: Sequence[Rendered]) -> list[Sampled]:
        """The result of a policy's `sample`."""
        return [Sampled(ids, [-1.0] * len(ids)) for ids in map(self._turn, batch)]

    def _turn(self, row: Rendered) -> list[int]:
        turns = sum(a and not b for a, b in zip(row.mask, row.mask[1:], strict=False))
        if turns == 2 or self.rng.random() < 0.2:
            return [self.rng.randrange(100, 600) for _ in range(self.rng.randint(2, 8))]
        said = self.dialect.write("so", SearchByImage() if turns == 0 else SearchByText("q"))
        return [*self.renderer.tokenizer.encode(said, add_special_tokens=False), self.renderer.eos]


async def _score(trajectory: Trajectory, task: Task) -> dict[str, float]:
    return {"total": sum(trajectory.ids) % 7 / 7}


def _trainer(folder: Path, output: Path, dialect: Dialect, lora: dict[str, Any] | None) -> GraphGRPOTrainer:
    tasks = {
        f"t{n}": Task(
            id=f"t{n}", question="What is this?", golds=("x",), knowledge="unknown",
            images=tuple(partial(Image.Image.copy, _noise(60 + 30 * k, 60, k)) for k in range(n)),
        )
        for n in range(3)
    }  # fmt: skip
    shown = [PAGE.model_copy(update={"thumbnail": _png(_noise(40, 56))})]
    setup = RolloutSetup(
        graph="search_agent", config=load_config(), policy=TransformersPolicy(model="none"), dialect=dialect,
        reward=_score, tools={"text_search": FixedText(), "image_search": FixedImage(hits=shown), "locate": FixedLocator()},
    )  # fmt: skip
    network = load_policy(folder)
    return GraphGRPOTrainer(
        model=network,
        args=GRPOConfig(
            output_dir=str(output), use_cpu=True, bf16=False, **checkpointing.argument(False), report_to=[], logging_steps=1,
            save_strategy="no", disable_tqdm=True, per_device_train_batch_size=4, gradient_accumulation_steps=3,
            num_generations=4, max_steps=2, learning_rate=1e-3, max_completion_length=24, temperature=1.0,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": name}]} for name in tasks]),
        processing_class=load_processor(folder),
        rollouts=GraphRollouts(tasks=tasks, setup=setup, concurrent=8),
        peft_config=peft_of(GRPORecipe(output=output, lora=lora), network),
    )  # fmt: skip


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _logprobs(trainer: GraphGRPOTrainer, batch: dict[str, Any], chunk: int) -> torch.Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    vision = {k: batch[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images") if k in batch}
    width = batch["completion_ids"].shape[1]
    with torch.no_grad():
        found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, batch_size=chunk, **vision)
    return found[0]


@pytest.mark.parametrize(
    ("dialect", "lora"),
    [
        pytest.param("mmsearch_r1", None, id="mmsearch_r1"),
        pytest.param("deepmmsearch_r1", None, id="deepmmsearch_r1"),
        pytest.param("mmsearch_r1", {"r": 2}, id="lora", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", _marked(TRAINED))
def test_a_family_is_trained_online_on_what_was_sampled(
    kind: str, dialect: str, lora: dict[str, Any] | None, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probabilities are those of an unpadded forward; blind, they are others; two steps move the weights."""
    trainer = _trainer(made(kind), tmp_path, build_dialect(dialect), lora)
    searcher = Searcher(trainer.renderer, build_dialect(dialect))
    batches = StaticBatching(lambda rows, stops: searcher.sample(rows), 64)
    monkeypatch.setattr(TransformersPolicy, "worker", lambda self: batches)
    rows = [{"prompt": [{"role": "user", "content": f"t{n}"}]} for n in range(3) for _ in range(4)]
    batch = trainer._generate_and_score_completions(rows)
    trainer.model.eval()
    found = {chunk: _logprobs(trainer, batch, chunk) for chunk in (5, 12)}
    counts = {len(rollout.rendered.pixels) for rollout in trainer.made}
    assert 0 in counts and max(counts) >= 2, "rows without, with one and with several pictures"
    for row, rollout in enumerate(trainer.made):
        assert rollout.trajectory.error is None
        check_pictures(rollout.rendered, trainer.renderer)
        border = rollout.rendered.mask.index(1)
        wanted = _alone(trainer.model, trainer.renderer, rollout.rendered)[border - 1 :]
        own = torch.tensor(rollout.rendered.mask[border:]).bool()
        for chunk in found.values():
            assert torch.allclose(chunk[row, : len(wanted)][own], wanted[own], atol=1e-5)
    for picture in (picture for rollout in trainer.made for picture in rollout.rendered.pixels):
        picture.values[...] = 0.25
    if "pixel_values" in batch:
        batch = {**batch, "pixel_values": torch.full_like(batch["pixel_values"], 0.25)}
    blind = _logprobs(trainer, batch, 5)
    mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
    for row, rollout in enumerate(trainer.made):
        changed = bool((found[5][row] - blind[row]).abs()[mask[row]].max() > 1e-6)
        assert changed == bool(rollout.rendered.pixels)
    passes = _passes(trainer, monkeypatch)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(passes) >= 6 or trainer.grids, "two steps of three passes, each with the pictures of its own rows"
    assert len(losses) == 2 and all(abs(loss) < 100 for loss in losses)
    moved = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    family = families.FAMILIES[kind]
    assert any(f"model.{family.decoder}." in name and ("lora" in name) == bool(lora) for name in moved)
    assert any(f"model.{part}." in name for part in family.tower for name in moved) == (lora is None)


def _passes(trainer: GraphGRPOTrainer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checks that every pass of the training is given its own rows, whose pictures then go to the network."""
    found: list[int] = []
    stock = trainer._with_pictures

    def checked(model: Any, rows: Sequence[Rendered], ids: torch.Tensor, mask: torch.Tensor, *rest: Any) -> Any:
        for row, padded, real in zip(rows, ids, mask, strict=True):
            assert padded[real.bool()].tolist() == row.ids
        found.append(len(rows))
        return stock(model, rows, ids, mask, *rest)

    monkeypatch.setattr(trainer, "_with_pictures", checked)
    return found


@pytest.mark.parametrize("kind", _marked(TRAINED))
def test_a_recipe_trains_a_family_from_the_command_line(
    kind: str, made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dry, where sampled and recomputed log-probabilities are compared, and two steps; the policy that is left speaks."""
    given = [
        f"start_from={made(kind)}", f"output={tmp_path / 'run'}", "settings=[dialect.name=mmsearch_r1]", "task_limit=4",
        "balanced=null", "held_out_limit=0", "prompts=2", "generations=2", "batch=2", "max_new_tokens=6",
        "max_tokens=8000", "steps=2", "keep_trajectories=false",
    ]  # fmt: skip
    assert train.main(["grpo", "--dry-run", *given]) == 0
    told = " ".join(capsys.readouterr().err.split())
    distance = re.search(r"mean distance ([\d.e+-]+) nats", told)
    assert distance and float(distance[1]) < 1e-4, told
    assert train.main(["grpo", *given]) == 0
    policy = build(PolicyConfig(kind="transformers", model=str(tmp_path / "run/policy"), max_new_tokens=3))
    assert policy.invoke([_asked(_noise(60, 60))]).response_metadata["token_ids"]


def _teacher(folder: Path) -> Path:
    store = TrajectoryStore(folder)
    for number in range(4):
        shown = tuple(f"p{number}{k}" for k in range(number % 3))
        said = (
            Said(
                "user", (*({"type": "image", "id": one} for one in shown), {"type": "text", "text": "Which country?"})
            ),
            Said("assistant", ({"type": "text", "text": f"<answer>Kenya {number}</answer>"},)),
        )
        trajectory = Trajectory(
            id=f"t{number}#0", task=f"t{number}", family="", knowledge="", question="", golds=(), graph="search_agent",
            dialect="mmsearch_r1", policy="teacher", temperature=1.0, correct=True, messages=said,
            pictures=tuple(Seen(one, (1, 4, 4)) for one in shown),
        )  # fmt: skip
        store.append(trajectory, {one: _png(_noise(60 + 20 * k, 60, k)) for k, one in enumerate(shown)})
    return folder


@pytest.mark.parametrize("lora", [None, {"r": 2}], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", _marked(TRAINED))
def test_a_family_learns_from_trajectories_and_is_served_again(
    kind: str, lora: dict[str, Any] | None, made: Any, tmp_path: Path
) -> None:
    """Two supervised steps; the loss of the first is the mean of unpadded forwards."""
    recipe = SFTRecipe(
        start_from=made(kind), trajectories=_teacher(tmp_path / "teacher"), output=tmp_path / "run", steps=2, batch=4,
        warmup_steps=0, decay_steps=1, save_every=2, log_every=1, optimizer="adamw", lora=lora, max_length=4096,
    )  # fmt: skip
    policy = sft.train(recipe)
    assert policy is not None
    before, after = load_policy(made(kind)), load_policy(policy)
    renderer = Renderer(load_processor(policy))
    logged = [json.loads(line) for line in (recipe.output / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in logged if "loss" in entry]
    assert len(losses) == 2
    rows = sft.start(recipe)[2]
    total = tokens = 0.0
    for number in range(4):
        row = rows.row(number)
        own = torch.tensor(row.mask[1:]).bool()
        total -= float(_alone(before.eval(), renderer, row)[own].sum())
        tokens += int(own.sum())
    assert losses[0] == pytest.approx(total / tokens, abs=0.03), "bfloat16 may round"
    kept = {name: weight.bfloat16().float() for name, weight in before.named_parameters()}  # as a policy is saved
    moved = {name for name, weight in after.named_parameters() if not torch.equal(weight, kept[name])}
    assert any("self_attn" in name for name in moved)
    assert any(f"model.{part}." in name for part in families.FAMILIES[kind].tower for name in moved) == (lora is None)
    turn = build(PolicyConfig(kind="transformers", model=str(policy), max_new_tokens=3)).invoke(
        [_asked(_noise(60, 60))]
    )
    assert turn.response_metadata["token_ids"]


# --- refused


def _without(folder: Path, target: Path, *, drop: str = "", add: str = "") -> Path:
    """A copy of a checkpoint that lacks a tensor, or has one too many."""
    from safetensors.torch import load_file, save_file

    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    if drop:
        del weights[next(name for name in weights if name.endswith(drop))]
    if add:
        weights[add] = torch.zeros(2)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"drop": "q_proj.weight"}, "1 missing tensors"),
        ({"add": "model.language_model.layers.0.extra"}, "1 unexpected tensors"),
    ],
)
def test_weights_that_are_not_whole_are_refused(change: dict[str, str], says: str, made: Any, tmp_path: Path) -> None:
    broken = _without(made(DEFAULT), tmp_path / "broken", **change)
    with pytest.raises(ValueError, match=says):
        load_policy(broken)
    with pytest.raises(ConfigError, match=says):
        build(PolicyConfig(kind="transformers", model=str(broken)))


@pytest.mark.parametrize("stage", ["grpo", "sft"])
@pytest.mark.parametrize("kind", ["pixtral", "qwen3_vl_moe"])
def test_a_model_of_no_trained_family_is_refused_from_its_config_alone(
    kind: str, stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no weights in the folder, so nothing can have been loaded."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    assert train.main([stage, "--dry-run", f"start_from={tmp_path}", f"output={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err.strip()
    assert f"model_type {kind!r} cannot be trained" in told and "qwen3_vl" in told
    assert "\n" not in told


# --- the page


def test_the_page_of_models_is_the_table(repository: Path) -> None:
    """Every family has its row; a cell claims nothing that the table refuses, and names a test that exists."""
    page = (repository / "rl/MODELS.md").read_text("utf-8")
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    head, *cells = rows
    assert [(row[0], row[1]) for row in cells] == [(family.title, kind) for kind, family in families.FAMILIES.items()]
    tests = dict(re.findall(r"^- (\w+)[^:]*: `(\S+)`", page, re.MULTILINE))
    for row in cells:
        trained = families.FAMILIES[row[1]].trained
        for column, cell in zip(head[2:], row[2:], strict=True):
            assert cell == "not tested here" or cell in tests or cell == "lora", (row[0], column, cell)
            if column in ("SFT", "GRPO", "LoRA"):
                assert (cell == "refused") == (not trained), (row[0], column, cell)
    here = [Path(__file__), repository / "tests/rl/grpo/test_grpo_trainer.py"]
    written = "".join(file.read_text("utf-8") for file in here)
    for name in tests.values():
        assert re.search(rf"^def {name}\(", written, re.MULTILINE), name
