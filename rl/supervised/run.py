"""The cold start: supervised training on the oracle's demonstrations, with TRL's SFTTrainer.

A row is drawn when it is needed: a demonstration by family, rewritten (`lensgraph.rl.pocket.invent`), its picture of a single entity drawn
anew, and turned into tokens by the same renderer that serves the policy. The loss is on the policy's own turns only.

Invariant: row `i` of a run is a function of the recipe's seed and `i`, so a resumed run sees the rows it would have seen.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from filelock import FileLock
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from peft import LoraConfig, get_peft_model
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.text import Text
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from trl import SFTConfig, SFTTrainer

from lensgraph.agent.policy.qwen.processor import PictureProcessor, load_processor
from lensgraph.agent.policy.render import Pixels, Rendered, Renderer
from lensgraph.rl.network import optimizers
from lensgraph.rl.network.collate import IGNORE, Collator, check_pictures
from lensgraph.rl.network.precision import autocasts
from lensgraph.rl.network.vision_attention import batch_pictures
from lensgraph.rl.pocket import network as pocket
from lensgraph.rl.pocket.demonstrations import lexicon as world_lexicon
from lensgraph.rl.pocket.demonstrations import load as load_demonstrations
from lensgraph.rl.pocket.demonstrations import make as demonstrations_of_world
from lensgraph.rl.pocket.invent import Demonstration, Lexicon, Manner, rewrite, worn
from lensgraph.rl.pocket.invented_flags import lookalike
from lensgraph.rl.pocket.rephrase import Rephrasing
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStore
from lensgraph.rl.run import trackers
from lensgraph.rl.run.callbacks import StopAt, SummaryLog
from lensgraph.rl.run.run_folder import (
    fresh_output,
    keep_devices,
    keep_recipe,
    last_step,
    remove_half_checkpoints,
    step_of,
    whole_checkpoint,
)
from lensgraph.tools.local.world import entities, pictures, scenes
from lensgraph.tools.local.world.scenes import Scene

LORA: dict[str, Any] = {
    "task_type": "CAUSAL_LM",
    "target_modules": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
}
"""LoRA on every projection of the decoder's blocks, unless a recipe says otherwise."""
ORDER = (
    "demonstrations", "trajectories", "rewrite_share", "eager_share", "frugal_share", "rephrase_share", "worn_share",
    "lookalike_share", "weights", "workflows", "batch", "accumulate", "seed",
)  # fmt: skip
"""Recipe fields that decide which row comes when."""


class SFTRecipe(BaseModel):
    """Everything that decides a cold start."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    demonstrations: Path = Path("runs/world_sft/demonstrations.jsonl")
    """Where they are kept; missing ones are made first."""
    trajectories: Path | None = None
    """A store of trajectories to imitate instead, such as those of a larger policy; only right ones count."""
    output: Path = Path("runs/world_sft")
    """Checkpoints, log and the finished policy (`policy/`)."""
    start_from: Path | None = None
    """A checkpoint folder to go on from, or a model name; None builds a new policy of `size`."""
    lora: dict[str, Any] | None = None
    """Options of peft's LoraConfig for the decoder; the vision tower then stays as it is. None: all weights are trained."""
    sight: Path | None = None
    """A vision tower to begin with (`python -m rl.train sight`), which implies `freeze_vision`. None: the network's own, which
    learns with the rest."""
    freeze_vision: bool = False
    """The blocks of the tower stay as they are, its merger learns on (online, `freeze_vision` keeps the merger as well)."""
    size: pocket.PocketSize = pocket.PocketSize()
    """The network, if it is new, and the size of pictures, if the tower is."""
    rewrite_share: float = Field(default=0.85, ge=0, le=1)
    """Share of rows that tell of an invented entity."""
    eager_share: float = Field(default=0.65, ge=0, le=1)
    """Share of the rows about what is known or in sight in which the policy searches all the same. The cold start shows both
    ways and which is better is left to online training; with more than half, a greedy policy searches too often."""
    frugal_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the rows about a lay question (`correction`) that ask in the page's own words at once. The others first try the
    question's, fail and correct themselves; online training finds out which is cheaper."""
    rephrase_share: float = Field(default=0.75, ge=0, le=1)
    """Share of rows whose question is put in other words (`lensgraph.rl.pocket.rephrase`)."""
    worn_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the rows about a single entity whose question has lost a word or two."""
    lookalike_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows about a single invented entity with a flag whose picture is invented too (`lensgraph.rl.pocket.invented_flags`)."""
    weights: dict[str, float] = {}
    """Rows drawn per family, in parts; a family that is not named counts 1. `family/flag` and `family/thing` multiply the
    share of those of its rows whose picture shows one flag or one thing."""
    workflows: dict[str, float] = {"search_agent": 0.84, "rag": 0.11, "direct": 0.05}
    """Rows drawn per graph, in parts."""
    steps: int = Field(default=3000, ge=1)
    """Optimiser steps."""
    batch: int = Field(default=256, ge=1)
    """Rows a step on each device."""
    accumulate: int = Field(default=1, ge=1)
    """Batches a step."""
    learning_rate: float = 1.5e-3
    """Held from the end of the warm-up to the beginning of the decay."""
    warmup_steps: int = 150
    """Steps to reach it."""
    decay_steps: int = 300
    """Steps at the end over which it falls to zero by a cosine. A run that must end early is resumed with fewer `steps`."""
    optimizer: optimizers.Name = "muon"
    """`muon` (matrices by Muon, the rest by AdamW) or `adamw`."""
    weight_decay: float = 0.05
    """On every matrix and embedding, as in AdamW."""
    max_length: int = 1024
    """Tokens; a longer row is an error, not cut, because a cut could fall inside a picture."""
    seed: int = 0
    """Of the network, the rows and the rewriting."""
    workers: int = 0
    """Data loader processes; a GPU wants one a core."""
    save_every: int = 500
    """Steps between checkpoints to resume from."""
    log_every: int = 20
    """Steps between log lines."""
    trackers: list[str] = []
    """Where metrics go besides the log file: `trackio`, `tensorboard`, `wandb`, or another name that transformers knows."""


class Rows:
    """Draws training rows by number."""

    def __init__(
        self,
        demonstrations: Sequence[Demonstration],
        renderer: Renderer,
        recipe: SFTRecipe,
        lexicon: Lexicon,
    ) -> None:
        self.renderer, self.recipe = renderer, recipe
        self.lexicon = lexicon
        self.rephrasing = Rephrasing(demonstrations if recipe.rephrase_share else ())
        self._drawn: dict[str, list[Pixels]] = {}
        self.unknown = {
            kind: [entity for entity in entities.select(split="train", kind=kind) if not entity.known]
            for kind in ("flag", "thing")
        }
        known = [flag for flag in entities.select(split="train", kind="flag") if flag.known]
        # what flags are made up from, as often from the few known ones as from the others
        self.bases = (known, self.unknown["flag"])
        self.shelves: dict[tuple[str, str, str, Manner], list[Demonstration]] = {}
        for demo in demonstrations:
            self.shelves.setdefault((demo.workflow, demo.family, _kind(demo), demo.manner), []).append(demo)
        self.odds = [self._odds(*shelf) for shelf in self.shelves]

    def _odds(self, workflow: str, family: str, kind: str, manner: Manner) -> float:
        """How often a shelf is drawn from: its family's weight, by the shelf's share of the family."""
        weights = self.recipe.weights
        like = {key: len(demos) for key, demos in self.shelves.items() if key[:2] == (workflow, family)}
        whole = sum(count for key, count in like.items() if key[3] == manner)
        share = like[workflow, family, kind, manner] / whole * weights.get(f"{family}/{kind}", 1.0)
        if len({key[3] for key in like}) > 1:
            other = self.recipe.frugal_share if family == "correction" else self.recipe.eager_share
            share *= 1 - other if manner == "plain" else other
        return self.recipe.workflows.get(workflow, 0.0) * weights.get(family, 1.0) * share

    def row(self, number: int) -> Rendered:
        """Training row `number`. The rows of one batch share graph and family, so that little of it is padding."""
        batch = random.Random(f"{self.recipe.seed}/batch/{number // self.recipe.batch}")
        shelf = batch.choices(list(self.shelves), self.odds)[0]
        rng = random.Random(f"{self.recipe.seed}/{number}")
        demo = rng.choice(self.shelves[shelf])
        if rng.random() < self.recipe.rephrase_share:
            demo = self.rephrasing(demo, rng)
        # what is known stays what it is: an invented entity would be an unknown one
        told = rewrite(demo, rng, self.lexicon, share=0.0 if demo.manner == "eager" else self.recipe.rewrite_share)
        if redrawn(demo) and demo.workflow == "search_agent" and rng.random() < self.recipe.worn_share:
            asked, *rest = told.messages
            told = replace(told, messages=(replace(asked, text=worn(asked.text, rng)), *rest))
        made_up = False
        if told.name != demo.name and (kind := _kind(demo)) in self.unknown:
            # what is told of an invented entity may be told of any unknown picture, or of one that is made up
            share = self.recipe.lookalike_share if kind == "flag" else 0.0
            made_up = share > 0 and rng.random() < share  # without one, nothing is drawn: rows stay what they were
            pool = self.bases[rng.randrange(2)] if made_up else self.unknown[kind]
            items = [{**demo.scene["items"][0], "entity_id": rng.choice(pool).id}]
            told = replace(told, scene={**demo.scene, "items": items})
        return self.renderer.render(self.messages(told, rng, made_up=made_up), generate=False)

    def messages(self, demo: Demonstration, rng: random.Random, *, made_up: bool = False) -> list[BaseMessage]:
        """The demonstration as chat messages with its pictures; `made_up`: the first shows a flag that nobody flies."""
        shown = self.pixels(demo, rng, made_up=made_up)
        messages: list[BaseMessage] = []
        for message in demo.messages:
            if message.role == "assistant":
                messages.append(AIMessage(message.text))
                continue
            blocks: list[str | dict[str, Any]] = [{"type": "image", "pixels": shown[n]} for n in message.pictures]
            messages.append(HumanMessage([*blocks, {"type": "text", "text": message.text}]))
        return messages

    def pixels(self, demo: Demonstration, rng: random.Random, *, made_up: bool = False) -> list[Pixels]:
        """The question's picture and its crops: of a single entity drawn anew for every row, else once a demonstration."""
        anew, key = redrawn(demo), f"{demo.task}/{demo.workflow}"
        if not anew and key in self._drawn:
            return self._drawn[key]
        # what is kept must not depend on which row asked for it first
        scene = varied(demo, rng if anew else random.Random(f"{self.recipe.seed}/{key}"))
        item = scene.items[0]
        picture = scene.render({0: lookalike(item.entity_id, item.rendition, rng)} if made_up else None)
        views = [picture, *(picture.crop(box) for box in demo.crops)]
        drawn = [self.renderer.pixels({"image": view}) for view in views]
        if not anew:
            self._drawn[key] = drawn
        return drawn


def redrawn(demo: Demonstration) -> bool:
    """Whether all that is said about the picture is said about a single entity, however it is drawn."""
    return demo.family not in ("visible", "crop_text") and len(demo.scene["items"]) == 1


def _kind(demo: Demonstration) -> str:
    """`flag` or `thing` if the picture shows a single one of them that may be drawn anew, else `scene`."""
    return str(demo.scene["items"][0]["entity_id"]).partition(":")[0] if redrawn(demo) else "scene"


def varied(demo: Demonstration, rng: random.Random) -> Scene:
    """The demonstration's scene, drawn anew where the run allows it.

    What is said about a single entity holds for every drawing of it, so the scene is composed again, by any artist that
    training may see: else the artist would tell whether to search. Elsewhere only the texture's noise and the colours'
    shake change, because boxes and colours may matter.
    """
    scene = scenes.from_dict(demo.scene)
    if redrawn(demo):
        entity = entities.get(scene.items[0].entity_id)
        artists = [*pictures.TRAIN_QUERIES[entity.kind], *pictures.INDEXED[entity.kind]]
        drawn = [a for a in artists if f"{a}/{entity.id}" in scenes.pixels()]
        return scenes.compose([(entity.id, rng.choice(drawn))], rng, augment=rng.random() < 0.7, scale=(0.5, 1.0))
    return replace(scene, seed=rng.getrandbits(32))


class TrajectoryRows:
    """Draws training rows from right trajectories: each of them once an epoch, in an order of the epoch's own."""

    def __init__(self, store: TrajectoryStore, renderer: Renderer, seed: int) -> None:
        self.store, self.renderer, self.seed = store, renderer, seed
        self.right = [trajectory for trajectory in store if trajectory.correct and trajectory.error is None]
        if not self.right:
            raise ValueError(f"{store.folder}: no trajectory with a right answer; there is nothing to imitate")

    def row(self, number: int) -> Rendered:
        """Training row `number`."""
        epoch, place = divmod(number, len(self.right))
        order = random.Random(f"{self.seed}/{epoch}").sample(range(len(self.right)), len(self.right))
        return self.renderer.render(self.messages(self.right[order[place]]), generate=False)

    def messages(self, trajectory: Trajectory) -> list[BaseMessage]:
        """The trajectory as chat messages, up to the policy's last turn."""
        messages: list[BaseMessage] = []
        for said in trajectory.messages:
            if said.role == "assistant":
                messages.append(AIMessage(said.text))
                continue
            blocks: list[str | dict[str, Any]] = [self._block(block) for block in said.blocks]
            messages.append(HumanMessage(blocks))
        while messages and not isinstance(messages[-1], AIMessage):
            messages.pop()
        return messages

    def _block(self, block: dict[str, str]) -> dict[str, Any]:
        if block["type"] != "image":
            return dict(block)
        picture = Image.open(io.BytesIO(self.store.picture(block["id"])))
        return {"type": "image", "id": block["id"], "image": picture}


class OwnTokensOnly(Qwen2_5_VLForConditionalGeneration):
    """The network with the vocabulary projection on the policy's own tokens only.

    Those are a fifth of a row; TRL's fused head is written for GPUs and costs a CPU more than the rest of the network.
    """

    def forward(self, labels: torch.Tensor | None = None, **inputs: Any) -> Any:  # type: ignore[override]
        """With `labels`, the summed cross-entropy (nats) and the right guesses on the labelled tokens; else as ever."""
        if labels is None:
            return super().forward(**inputs)
        hidden = self.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        own = labels[:, 1:] != IGNORE
        logits, targets = self.lm_head(hidden[own]).float(), labels[:, 1:][own]
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        return {"loss": loss, "right": (logits.argmax(-1) == targets).float().mean().detach(), "tokens": own.sum()}


class ColdStartTrainer(SFTTrainer):
    """TRL's trainer for a network that works out its own loss."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean cross-entropy over the policy's own tokens of the optimiser step."""
        out = model(**inputs)
        tokens = out["tokens"] if num_items_in_batch is None else num_items_in_batch
        self._metrics["train" if model.training else "eval"]["mean_token_accuracy"].append(out["right"].item())
        # tokens are counted over all processes, and gradients are averaged over them
        loss = out["loss"] / tokens * (self.accelerator.num_processes if num_items_in_batch is not None else 1)
        return (loss, out) if return_outputs else loss

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # checkpoints of this family are written under older weight names, which only `from_pretrained` translates;
        # the stock method would go on with fresh weights and a warning
        if not (Path(resume_from_checkpoint) / "config.json").is_file():  # an adapter has no such names
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = pocket.load_network(Path(resume_from_checkpoint)).state_dict()
        (self.model if model is None else model).load_state_dict(saved)


def corpus(demonstrations: Sequence[Demonstration], recipe: SFTRecipe, lexicon: Lexicon) -> Iterator[str]:
    """What the tokenizer is trained on: demonstrations as they are and rewritten, without the forbidden names."""
    rng = random.Random(recipe.seed)
    rephrasing = Rephrasing(demonstrations if recipe.rephrase_share else ())
    for demo in demonstrations:
        for share in (0.0, 1.0):
            told = rewrite(rephrasing(demo, rng) if share else demo, rng, lexicon, share=share)
            yield from (message.text for message in told.messages)


def _world(recipe: SFTRecipe) -> tuple[PictureProcessor, Qwen2_5_VLForConditionalGeneration, Rows]:
    """A policy of the embedded world and its rows."""
    recipe.demonstrations.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{recipe.demonstrations}.lock"):  # one process makes them, the others wait
        if not recipe.demonstrations.is_file():  # made beside it: half of them would pass for all
            partial = recipe.demonstrations.with_suffix(".part")
            demonstrations_of_world(partial)
            partial.replace(recipe.demonstrations)
    demonstrations, lexicon = load_demonstrations(recipe.demonstrations), world_lexicon()
    if recipe.start_from is None:
        tokenizer = pocket.train_tokenizer(corpus(demonstrations, recipe, lexicon), recipe.size.vocabulary)
        processor = pocket.build_processor(tokenizer, recipe.size)
        network = pocket.build_network(processor, recipe.size, seed=recipe.seed)
    else:
        processor, network = load_processor(recipe.start_from), pocket.load_network(recipe.start_from)
    if recipe.sight is not None:
        pocket.graft(network, recipe.sight)
        processor.image_processor = pocket.build_picture_processor(recipe.size)
    held = {name.lower() for name in lexicon.forbidden}
    pieces = tuple(piece for piece in pocket.pieces(processor.tokenizer) if piece.lower() not in held)
    lexicon = replace(lexicon, pieces=pieces)
    return processor, network, Rows(demonstrations, Renderer(processor, cached_pictures=0), recipe, lexicon)


def _imitation(
    recipe: SFTRecipe, folder: Path
) -> tuple[PictureProcessor, Qwen2_5_VLForConditionalGeneration, TrajectoryRows]:
    """Any policy of the family, and the trajectories that it shall imitate."""
    assert recipe.start_from is not None
    processor = load_processor(recipe.start_from)
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    network = Qwen2_5_VLForConditionalGeneration.from_pretrained(recipe.start_from, dtype=dtype)
    return processor, network, TrajectoryRows(TrajectoryStore(folder), Renderer(processor), recipe.seed)


def _dry_run(rows: Rows | TrajectoryRows, processor: PictureProcessor, recipe: SFTRecipe) -> None:
    """Two rows, their invariants, and one of them in words."""
    console = Console(stderr=True)
    for number in (0, 1):
        rendered = rows.row(number)
        check_pictures(rendered, rows.renderer)
        if not any(rendered.mask):
            raise ValueError(f"row {number} holds no turn of the policy; there is nothing to learn from it")
        if len(rendered.ids) > recipe.max_length:
            raise ValueError(f"row {number} has {len(rendered.ids)} tokens; max_length={recipe.max_length}, raise it")
    text = Text()
    for token, own in zip(rendered.ids, rendered.mask, strict=True):
        if token != rows.renderer.image_pad:
            text.append(processor.tokenizer.decode([token]), style="bold green" if own else "dim")
    console.print(text)
    console.print("dry run: 2 rows, placeholders = pictures = grids, the loss is on the bold text; nothing was trained")


def train(
    recipe: SFTRecipe, *, resume: bool = False, max_steps: int | None = None, dry_run: bool = False
) -> Path | None:
    """Run the recipe; returns the folder of the finished policy, or None after a dry run.

    Raises:
        FileNotFoundError: `start_from`, `sight` or `trajectories` is not there.
        FileExistsError: `output` holds another run.
        ValueError: there is nothing to imitate, or nobody to imitate it; `max_steps` is below 1; a tracker is not installed;
            or a resumed run would draw other rows.
    """
    end = last_step(recipe.steps, max_steps)
    trackers.check(recipe.trackers)
    if recipe.sight is not None and not (recipe.sight / "config.json").is_file():
        raise FileNotFoundError(f"sight={recipe.sight}: no tower there; give a folder with a config.json")
    if recipe.start_from is not None and len(recipe.start_from.parts) > 2 and not recipe.start_from.is_dir():
        raise FileNotFoundError(
            f"start_from={recipe.start_from}: no checkpoint there; give a folder with a config.json"
        )
    if recipe.trajectories is not None and recipe.start_from is None:
        raise ValueError("trajectories= needs start_from=: imitation begins with a policy that can read")
    if recipe.trajectories is not None and (recipe.sight is not None or recipe.lookalike_share):
        raise ValueError(
            "sight= and lookalike_share= are for demonstrations of the world; leave them out with trajectories="
        )
    if recipe.freeze_vision and recipe.start_from is None and recipe.sight is None:
        raise ValueError("freeze_vision=true of a new network would keep a blind tower; give sight= or start_from=")
    last = (
        whole_checkpoint(recipe.output) if resume else None
    )  # None: a run that was killed before its first starts over
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    devices = processes if processes > 1 else max(1, torch.cuda.device_count())
    if not dry_run:
        fresh_output(recipe.output, resume=resume)
        remove_half_checkpoints(recipe.output)
        keep_recipe(recipe.output, recipe, ORDER, resume=last is not None)
        keep_devices(recipe.output, devices, resume=last is not None)
    processor, network, rows = (
        _world(recipe) if recipe.trajectories is None else _imitation(recipe, recipe.trajectories)
    )
    if recipe.sight is not None or recipe.freeze_vision:
        for part in (network.model.visual.patch_embed, network.model.visual.blocks):
            part.requires_grad_(False)
    if dry_run:
        _dry_run(rows, processor, recipe)
        return None
    count = recipe.steps * recipe.batch * recipe.accumulate * devices
    dataset = Dataset.from_dict({"number": range(count)}).with_transform(
        lambda batch: {"rendered": [rows.row(number) for number in batch["number"]]}
    )
    gpu = torch.cuda.is_available()
    config = SFTConfig(
        output_dir=str(recipe.output / "checkpoints"),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch,
        gradient_accumulation_steps=recipe.accumulate,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": min(recipe.decay_steps, recipe.steps - 1), "decay_type": "cosine"},
        max_length=None,
        seed=recipe.seed,
        bf16=autocasts(),
        use_cpu=not gpu,
        ddp_backend="gloo" if not gpu and processes > 1 else None,
        gradient_checkpointing=gpu and recipe.lora is not None,
        dataloader_num_workers=recipe.workers,
        dataloader_prefetch_factor=4 if recipe.workers else None,
        dataloader_persistent_workers=recipe.workers > 0,
        save_steps=recipe.save_every,
        save_total_limit=2,
        logging_steps=recipe.log_every,
        report_to=list(recipe.trackers),
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # rows are random already, and row numbers decide the batches
        dataset_kwargs={"skip_prepare_dataset": True},
        disable_tqdm=False,
    )
    batch_pictures(network.model.visual)
    network.__class__ = OwnTokensOnly
    trained: Any = network
    if recipe.lora is not None:
        trained = get_peft_model(network, LoraConfig(**{**LORA, **recipe.lora}))
    if not gpu:
        # matrix products and a softmax: on a CPU the fused kernel's backward takes twice their time on rows this short
        network.model.language_model.set_attn_implementation("eager")
    optimizer = optimizers.build(
        trained.named_parameters(),
        name=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    trainer = ColdStartTrainer(
        model=trained,
        args=config,
        train_dataset=dataset,
        data_collator=Collator(network.config, pad=processor.tokenizer.pad_token_id, max_length=recipe.max_length),
        processing_class=processor,
        optimizers=(optimizer, None),
        callbacks=[SummaryLog(recipe.output / "log.jsonl"), StopAt(end)],
    )
    if last is None or step_of(last) < end:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    else:
        trainer._load_from_checkpoint(str(last))
    if recipe.lora is not None:
        network = trained.merge_and_unload()
    network.__class__ = Qwen2_5_VLForConditionalGeneration
    policy = recipe.output / "policy"
    if trainer.is_world_process_zero():
        pocket.save(network, processor, policy)
    return policy
