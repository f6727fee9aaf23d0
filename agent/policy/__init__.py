"""Policies: LangChain chat models that decide. `build` finds the one that the configuration names."""

from __future__ import annotations

import importlib
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import ValidationError

from agent.config import ConfigError, PolicyConfig
from agent.policy.errors import PolicyError

KINDS = {
    "transformers": "agent.policy.transformers:TransformersPolicy",
    "openai_compatible": "agent.policy.openai_compatible:OpenAICompatiblePolicy",
}
"""Short names. Only the module asked for is imported: one of them imports torch."""
_SERVER_FIELDS = ("base_url", "api_key_env", "timeout", "retries")


def build(config: PolicyConfig) -> BaseChatModel:
    """The policy that `config` describes; a `ConfigError` if it cannot be had."""
    path = KINDS.get(config.kind, config.kind)
    module_name, _, attribute = path.partition(":")
    if not attribute:
        raise ConfigError(
            f"policy.kind: unknown kind {config.kind!r}; valid: {', '.join(KINDS)}, or an import path package.module:Class."
        )
    try:
        cls = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigError(f"policy.kind: {config.kind!r} cannot be imported ({error}).") from error
    except AttributeError as error:
        raise ConfigError(f"policy.kind: module {module_name!r} has no {attribute!r}.") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseChatModel)):
        raise ConfigError(f"policy.kind: {config.kind!r} is no LangChain chat model.")
    fields = {
        "model": config.model,
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        **(
            {key: getattr(config, key) for key in _SERVER_FIELDS}
            if config.kind == "openai_compatible"
            else {}
        ),
        **config.options,
    }
    try:
        return cls(**fields)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"policy.{where}: {problem['msg']} (kind {config.kind!r}).") from error


__all__ = ["KINDS", "PolicyError", "build"]
