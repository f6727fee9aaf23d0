"""TRL's GRPO trainer with a LangGraph graph as the rollout.

The optimiser, the objective, logging and checkpoints are TRL's. We override the rest, because TRL's tool loop cannot run a
graph and lets every episode of a batch wait for the slowest one at each turn (`python -m lensgraph.rl throughput` measures
both), and because what is trained must be what is served, down to the sampled ids. Private methods of TRL 1.16.0 are
replaced, and their signatures are tested:

- `_generate` runs the graph (`lensgraph.rl.grpo.generation`);
- `_generate_and_score_completions` restricts the loss to rewarded episodes and chosen nodes
  (`lensgraph.rl.grpo.loss_mask`) and assigns credit (`lensgraph.rl.grpo.credit`);
- `_compute_loss` leaves out rows that cannot change the loss (`lensgraph.rl.grpo.zero_advantage`);
- `_get_per_token_logps_and_entropies` leaves the vision tower out of chunks without pictures, which TRL's
  cannot do, and gives the families that are not Qwen-VL their pictures in their own layout: in TRL's batch a
  row of them is the number of its rollout only.

Others are extended: `training_step` measures the seconds of the update; `train`, `_save_checkpoint`,
`_load_from_checkpoint` and `_get_train_sampler` make runs resumable (`lensgraph.rl.grpo.resuming`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from lensgraph.agent.policy.families import table as families
from lensgraph.agent.policy.families.generate import on
from lensgraph.agent.policy.families.picture_batch import picture_inputs
from lensgraph.agent.policy.render import Rendered
from lensgraph.rl.grpo import credit, loss_mask, training_metrics
from lensgraph.rl.grpo.finished_pixels import pixels_as_pictures
from lensgraph.rl.grpo.generation import GraphRollouts, TrainingRow
from lensgraph.rl.grpo.resuming import ResumableTrainer
from lensgraph.rl.grpo.training_metrics import decisions_of
from lensgraph.rl.grpo.zero_advantage import LOSSES, needed, worth_a_pass
from lensgraph.rl.network.collate import IGNORE
from lensgraph.rl.rollout.deciders import check_nodes
from lensgraph.rl.run import sharded


class GraphGRPOTrainer(ResumableTrainer):
    """GRPO in which an episode is a run of a compiled graph."""

    def __init__(self, *args: Any, rollouts: GraphRollouts, **kwargs: Any) -> None:
        super().__init__(*args, rollouts=rollouts, **kwargs)
        sharded.refuse(self.accelerator)
        # credit compares the rows of one group, which must be in this process
        each = self.args.per_device_train_batch_size * self.args.steps_per_generation
        if each % self.num_generations:
            raise ValueError(
                f"a batch of rollouts is {each} rows a process, which splits groups of num_generations="
                f"{self.num_generations}; change per_device_train_batch_size, steps_per_generation or the processes"
            )
        check_nodes(rollouts.train_nodes, rollouts.setup.graph)
        self._generating = self._updating = 0.0
        self._kept: dict[str, list[Rendered]] = {}
        self._present: list[Rendered] | None = None
        if rollouts.sampler == "process" and not self.use_vllm:
            self._start_sampler()  # now, so that its imports run beside ours

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One forward and backward pass, after a new batch of rollouts where one is due; the two are timed
        apart."""
        started, self._generating = time.perf_counter(), 0.0
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._updating += time.perf_counter() - started - self._generating
        if self._step % self.current_gradient_accumulation_steps == 0:
            self._metrics["train"]["seconds/update"].append(self._updating)
            self._updating = 0.0
        return loss

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        started = time.perf_counter()
        with pixels_as_pictures(self.processing_class):
            output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        if not self.grids:
            self._kept[mode] = self.rows
            output["rollout"] = torch.arange(len(self.rows), device=self.accelerator.device)
        rewards = [rollout.trajectory.total_reward for rollout in self.made]
        size = self.num_generations if mode == "train" else self.num_generations_eval
        credit.zero_equal_groups(output["advantages"], rewards, size)
        decisions = [decisions_of(rollout) for rollout in self.made]
        loss_mask.leave_out(output, rewards, decisions, self.rollouts.train_nodes, self.accelerator.gather)
        if self.rollouts.credit == "decision" and mode == "train":
            width, scale = output["completion_ids"].shape[1], credit.scale_of(self.scale_rewards, decisions)
            output["advantages"] = credit.by_decision(output["advantages"], decisions, width, size, scale)
        by_row = self.loss_type in ("grpo", "sapo")
        sums = training_metrics.added(training_metrics.decisions(decisions, output, by_row=by_row))
        for name, value in training_metrics.of_decisions(sums).items():
            self._metrics[mode][name].append(value)
        output["recorded_logps"] = self.recorded(output["completion_ids"])
        kept = 0 if self.grids else sum(len(row.pixels) for row in self._kept[mode])
        seen = training_metrics.added(training_metrics.pictures(self.made, self.rollouts.tasks, output, kept))
        self._metrics[mode]["pictures"].append(seen["pictures"] / seen["rows"])
        self._metrics[mode]["pictures/unseen"].append(seen["blind"] / max(1.0, seen["asked"]))
        self._generating += time.perf_counter() - started
        return output

    def recorded(self, completions: torch.Tensor) -> torch.Tensor:
        """The sampler's log-probabilities of the last batch of rollouts, in the shape of its completions; 0 elsewhere."""
        found = torch.zeros(completions.shape, device=completions.device)
        for row, rollout in zip(found, self.made, strict=True):
            scores = TrainingRow.of(rollout, self.renderer.eos).logprobs
            row[: len(scores)] = torch.tensor(scores)
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        plain = self.beta == 0 and self.top_entropy_quantile == 1.0 and not self.aux_loss_enabled
        if self.model.training and plain and not self._entropy_bonus_enabled and self.loss_type in LOSSES:
            inputs = worth_a_pass(inputs, max(gather_object([needed(inputs)])))
        if not self.grids:
            kept = self._kept["train" if self.model.training else "eval"]
            self._present = [kept[row] for row in inputs["rollout"].tolist()]
        loss = super()._compute_loss(model, inputs)
        self._present = None
        if "recorded_logps" in inputs:
            # log-probabilities under the weights that sampled: TRL's own, which it keeps where a batch serves several
            # steps, or else those of this pass, which is then of the first step
            old = inputs.get("old_per_token_logps")
            found = self.accelerator.gather(training_metrics.distance(self._found if old is None else old, inputs))
            mode = "train" if self.model.training else "eval"
            self._metrics[mode]["delta_logp/mean"].append(float(found[:, 0].sum() / found[:, 1].sum().clamp(min=1)))
            self._metrics[mode]["delta_logp/max"].append(float(found[:, 2].max()))
        return loss_mask.per_kept_row(loss, inputs, self.loss_type)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **rest: Any,
    ) -> Any:
        if not self.grids:
            rows = self.rows if self._present is None else self._present
            return self._with_pictures(model, rows, input_ids, attention_mask, logits_to_keep, batch_size)
        stock = super()._get_per_token_logps_and_entropies
        counts = rest.get("num_images")
        if rest.get("pixel_values") is None or rest.get("image_grid_thw") is None or counts is None:
            logprobs, *others = stock(model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **rest)
            self._found = logprobs.detach()
            return (logprobs + self._untouched_tower(), *others)
        made, size = [], batch_size or len(input_ids)
        for start in range(0, len(input_ids), size):
            end = min(start + size, len(input_ids))
            chunk = _pictures_of_rows(rest, start, end)
            made.append(stock(model, input_ids[start:end], attention_mask[start:end], logits_to_keep, **chunk))
        if not sum(counts):
            made[0] = (made[0][0] + self._untouched_tower(), *made[0][1:])
        logprobs = torch.cat([one[0] for one in made])
        self._found = logprobs.detach()
        entropies = torch.cat([one[1] for one in made]) if made[0][1] is not None else None
        losses = torch.stack([one[2] for one in made]).mean() if made[0][2] is not None else None
        return logprobs, entropies, losses

    def _with_pictures(
        self,
        model: Any,
        rows: Sequence[Rendered],
        ids: torch.Tensor,
        mask: torch.Tensor,
        keep: int,
        size: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """TRL's pass over a batch, with the pictures of `rows` in the layout of their family."""
        labels = ids.masked_fill(mask == 0, IGNORE)
        labels[:, :-keep] = IGNORE
        made = []
        for start in range(0, len(ids), size or len(ids)):
            part = slice(start, start + (size or len(ids)))
            family, network = families.of(self._own_network), self._own_network
            pictures = on(picture_inputs(family, rows[part], ids[part], self.renderer.image_pad), network)
            with self.accelerator.autocast():
                made.append(
                    model(
                        input_ids=ids[part],
                        attention_mask=mask[part],
                        labels=labels[part],
                        fused_lm_head=True,
                        **pictures,
                    )
                )
        logprobs = torch.cat([one.log_probs[:, -keep:] for one in made])
        self._found = logprobs.detach()
        if not any(row.pixels for row in rows):
            logprobs = logprobs + self._untouched_tower()
        return (
            logprobs,
            torch.cat([one.entropy[:, -keep:] for one in made]) if made[0].entropy is not None else None,
            None,
        )

    def _untouched_tower(self) -> torch.Tensor:
        """Zero, as a function of every trained weight of the vision tower.

        Several processes wait for the gradients of all weights. If no picture went through the tower, its weights get
        a gradient of zero from this term.
        """
        if not torch.is_grad_enabled():
            return torch.zeros((), device=self.accelerator.device)
        network = self._own_network
        network = network.get_base_model() if hasattr(network, "get_base_model") else network
        trained = [weight for part in families.eyes(network) for weight in part.parameters() if weight.requires_grad]
        return sum((0.0 * weight.sum() for weight in trained), torch.zeros((), device=self.accelerator.device))


def _pictures_of_rows(options: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    """The vision options of rows `start` to `end`; rows without any picture get none, so that the tower is
    left out."""
    counts: Sequence[int] = options["num_images"]
    grids = options["image_grid_thw"]
    chunk = {name: value for name, value in options.items() if name not in _VISION}
    if options.get("mm_token_type_ids") is not None:
        chunk["mm_token_type_ids"] = options["mm_token_type_ids"][start:end]
    if sum(counts[start:end]):
        first, last = sum(counts[:start]), sum(counts[:end])
        patches = grids.prod(-1)
        row, end_row = int(patches[:first].sum()), int(patches[:last].sum())
        chunk |= {
            "image_grid_thw": grids[first:last],
            "pixel_values": options["pixel_values"][row:end_row],
            "num_images": counts[start:end],
        }
    return chunk


_VISION = frozenset({"pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids"})
