"""The chat model that sums up the pages of a text search: any that could be a policy, or the policy itself.

`tools` take a ready chat model and know nothing of policies; here the settings under `tools.text_search.read.summarise.model`
become one: the word `policy`, or the settings of a policy (`model`, `kind`, `base_url`, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import ValidationError

from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.config.problems import explain
from lensgraph.tools.safety.redact import shown

WHERE = "tools.text_search.read.summarise.model"
THE_POLICY = "policy"
"""The model that also decides, as it is configured; never a live one that a program or a training run passes in."""


def wanted(spec: Mapping[str, Any], policy: PolicyConfig) -> PolicyConfig | None:
    """The settings of the summarising model in the settings of a tool. None: there is none, or it is a ready model."""
    reading = spec.get("read")
    summarise = reading.get("summarise") if isinstance(reading, Mapping) else None
    model = summarise.get("model") if isinstance(summarise, Mapping) else None
    if model is None or isinstance(model, BaseChatModel):
        return None
    if model == THE_POLICY:
        return policy
    if not isinstance(model, Mapping):
        raise ConfigError(
            f"{WHERE}={shown((), model)}: write `policy`, or the keys of a policy such as {{model: NAME, base_url: ...}}."
        )
    try:
        return PolicyConfig(**model)
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(f"{WHERE}: {error}") from error
        raise ConfigError(explain(error, PolicyConfig, tuple(WHERE.split(".")))) from None


def put(spec: dict[str, Any], settings: PolicyConfig, build: Callable[[PolicyConfig], BaseChatModel]) -> dict[str, Any]:
    """The settings of the tool with the model in place of its settings."""
    try:
        model = build(settings)
    except ConfigError as error:
        raise ConfigError(f"{WHERE}: {error}") from error
    read = dict(spec["read"])
    return {**spec, "read": {**read, "summarise": {**read["summarise"], "model": model}}}
