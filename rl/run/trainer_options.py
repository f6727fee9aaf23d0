"""Options of a recipe that go through to TRL's configuration under TRL's own names.

Invariant: each decides exactly one thing in one place. A name that a field of the recipe stands for, or that this package
decides because the rollout, the log or resuming depend on it, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from lensgraph.rl.run import option_names
from lensgraph.rl.run.base_recipes import RunRecipe
from lensgraph.tools.safety.one_line import one_line

C = TypeVar("C")

FIELDS = {
    "output_dir": "output", "max_steps": "steps", "num_train_epochs": "steps", "save_steps": "save_every",
    "report_to": "trackers", "per_device_train_batch_size": "batch", "lr_scheduler_type": "schedule",
    "gradient_accumulation_steps": "accumulate (sft), or prompts, generations, batch and updates",
    "optim": "optimizer", "weight_decay": "weight_decay", "logging_steps": "log_every", "max_length": "max_length",
    "dataloader_num_workers": "workers",
    "num_generations": "generations", "steps_per_generation": "updates", "generation_batch_size": "prompts",
    "epsilon": "clip", "max_completion_length": "max_new_tokens", "use_vllm": "vllm", "vllm_mode": "vllm",
    "vllm_server_base_url": "vllm_url", "vllm_server_host": "vllm_url", "vllm_server_port": "vllm_url",
}  # fmt: skip
"""TRL's name -> the field of a recipe that stands for it, where the two differ."""
OURS = {
    name: reason
    for reason, names in {
        "the graph is the rollout": "max_tool_calling_iterations chat_template_kwargs",
        "the policy samples from its whole distribution, because training sees that one":
            "top_k top_p min_p repetition_penalty generation_kwargs cache_implementation vllm_structured_outputs_regex",
        "the policy is sampled by this package or by vLLM":
            "use_transformers_continuous_batching use_transformers_paged transformers_continuous_batching_config",
        "there is one reward; see `reward`": "reward_weights multi_objective_aggregation",
        "an episode that a limit ended is masked by reward.mask_overlong": "mask_truncated_completions",
        "rows are rendered, and the loss computed, by this package":
            "remove_unused_columns dataset_kwargs dataset_text_field dataset_num_proc packing packing_strategy eval_packing "
            "padding_free truncation_mode assistant_only_loss completion_only_loss chat_template_path eos_token pad_token "
            "loss_type label_smoothing_factor neftune_noise_alpha model_init_kwargs use_liger_kernel",
        "resuming depends on it":
            "save_total_limit save_strategy save_only_model shuffle_dataset train_sampling_strategy data_seed ignore_data_skip "
            "resume_from_checkpoint auto_find_batch_size",
        "the device is found, and processes are those of the launcher":
            "use_cpu ddp_backend local_rank deepspeed fsdp fsdp_config",
        "held-out tasks are measured by the graph":
            "eval_strategy eval_steps eval_on_start do_eval num_generations_eval load_best_model_at_end metric_for_best_model",
    }.items()
    for name in names.split()
}  # fmt: skip
"""TRL's name -> the reason why this package decides it."""
CHOICES = {
    "importance_sampling_level": ("token", "sequence"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
"""Options whose values TRL compares only once it computes a loss."""


def check(config: type[Any], recipe: RunRecipe) -> None:
    """Refuse `trainer` options that TRL's configuration does not have, or that are decided elsewhere.

    Raises:
        ValueError: the message is one line with the fix.
    """
    option_names.check("trainer", recipe.trainer, {one.name for one in fields(config)}, config.__name__)
    own = set(type(recipe).model_fields)
    for name, value in recipe.trainer.items():
        field = name if name in own else FIELDS.get(name, "")
        if field and (field in own or " " in field):
            raise ValueError(f"trainer.{name}: the recipe decides it; set {field}")
        if name in OURS:
            raise ValueError(f"trainer.{name}: not to be set here ({OURS[name]})")
        if value not in CHOICES.get(name, (value,)):
            raise ValueError(f"trainer.{name}={value}: use one of {', '.join(CHOICES[name])}")


def build(config: type[C], recipe: RunRecipe, decided: Mapping[str, Any]) -> C:
    """TRL's configuration from what the recipe decides and its `trainer` options.

    `decided` values that no field of the recipe stands for are this package's defaults, and `trainer` may replace them.

    Raises:
        ValueError: see `check`; or TRL does not take a value.
    """
    check(config, recipe)
    try:
        return config(**{**decided, **recipe.trainer})
    except TypeError as error:
        raise ValueError(f"trainer: {one_line(error)}") from error
