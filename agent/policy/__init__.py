"""Policies: LangChain chat models that decide. `build` finds the one that the configuration names."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy import device
from lensgraph.agent.policy.errors import PolicyError
from lensgraph.tools.safety.redact import shown

KINDS = {
    "pocket": "lensgraph.agent.policy.light.policy:LightPolicy",
    "transformers": "lensgraph.agent.policy.qwen.transformers:TransformersPolicy",
    "openai_compatible": "lensgraph.agent.policy.server.openai_compatible:OpenAICompatiblePolicy",
}
"""Short names. Only the module asked for is imported: one imports torch and transformers."""
_HUB = "lensgraph.agent.policy.hub:HubPolicy"
OURS = {*KINDS, _HUB}
"""The kinds whose options are known."""
_UNREACHED = "We couldn't connect to"
"""How transformers says that a model is neither here nor to be had."""
_ON_A_DEVICE = ("transformers", _HUB)
_LOADED = ("pocket", "transformers")
_SERVER_FIELDS = ("base_url", "api_key_env", "timeout", "retries")


def build(config: PolicyConfig) -> BaseChatModel:
    """The policy that `config` describes; a `ConfigError` if it cannot be had."""
    if "api_key" in config.options:
        raise ConfigError(
            "policy.options.api_key: a key is no setting; export it and name its variable: policy.api_key_env."
        )
    kind = _kind(config)
    cls = _class_of(kind)
    if kind in OURS:
        _refuse_unknown(cls, config.options)
    fields: dict[str, Any] = {"model": config.model, "temperature": config.temperature, **config.options}
    if config.max_new_tokens is not None:
        fields["max_new_tokens"] = config.max_new_tokens
    if config.kind == "openai_compatible":
        fields |= {key: getattr(config, key) for key in _SERVER_FIELDS}
    try:
        policy = cls(**fields)
        if kind in _ON_A_DEVICE:
            device.require(policy.device)
        # Missing weights are found out here, as a setting that is wrong, and not in the middle of a question.
        return policy.load() if config.kind in _LOADED else policy
    except ConfigError:
        raise
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = [str(part) for part in problem["loc"]]
        where = ".".join(["policy", *(["options"] if place and place[0] in config.options else []), *place])
        message = problem["msg"].removeprefix("Value error, ")
        given = f"={shown(place, problem['input'])}" if place and problem["type"] != "missing" else ""
        raise ConfigError(f"{where}{given}: {message} (kind {config.kind!r}).") from None
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(_no_model(config.model, error)) from error


def check_kind(kind: str) -> None:
    """Refuse a kind of policy that there is none of; nothing is loaded, and of the kinds with a short name nothing imported.

    Raises:
        ConfigError: what is wrong, in one line.
    """
    if kind not in KINDS:
        _class_of(kind)


def _refuse_unknown(cls: type[BaseModel], options: Mapping[str, Any]) -> None:
    """LangChain's models take any argument, and a misspelt one would do nothing."""
    valid = sorted(set(cls.model_fields) - set(BaseChatModel.model_fields) - {"model", "api_key"})
    for name in options:
        if name not in cls.model_fields and not any(name in _aliases(field) for field in cls.model_fields.values()):
            raise ConfigError(f"policy.options.{name}: unknown option; valid: {', '.join(valid)}.")


def _aliases(field: FieldInfo) -> list[Any]:
    alias = field.validation_alias
    return list(alias.choices) if isinstance(alias, AliasChoices) else [alias]


def _no_model(model: str, error: Exception) -> str:
    """Why a model cannot be had; transformers takes a path that is not there for a badly written hub name."""
    if model.startswith(("/", "~", ".")) and not Path(model).expanduser().exists():
        return f"policy.model={model!r}: no such folder; give the folder of a checkpoint, or a hub name"
    if not model.strip():
        return f"policy.model={model!r}: empty; give pocket, the folder of a checkpoint, or a hub name"
    problem = _line(error).removeprefix(f"policy.model={model}: ")
    if _UNREACHED in problem:
        problem = (
            "not among the downloaded models, and the hub cannot be reached; connect and unset HF_HUB_OFFLINE, or give "
            "the folder of a checkpoint"
        )
    return f"policy.model={model!r}: {problem}"


def _kind(config: PolicyConfig) -> str:
    """`transformers` is one of two: Qwen2.5-VL with its exact tokens, or any other model of the hub."""
    if config.kind != "transformers" or config.model == "pocket":
        return config.kind
    hub = importlib.import_module("lensgraph.agent.policy.hub")
    try:
        return "transformers" if hub.is_qwen(checkpoint(config.model)) else _HUB
    except (OSError, ValueError) as error:
        raise ConfigError(_no_model(config.model, error)) from error


def _class_of(kind: str) -> Any:
    module_name, _, attribute = KINDS.get(kind, kind).partition(":")
    if not attribute:
        valid = f"{', '.join(KINDS)}, or an import path package.module:Class"
        raise ConfigError(f"policy.kind: unknown kind {kind!r}; valid: {valid}.")
    try:
        cls = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigError(
            f"policy.kind: {kind!r} cannot be imported ({_line(error)}); install it or correct the path."
        ) from error
    except AttributeError as error:
        raise ConfigError(f"policy.kind: module {module_name!r} has no {attribute!r}; correct the path.") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseChatModel)):
        raise ConfigError(f"policy.kind: {kind!r} is no LangChain chat model; give a class derived from BaseChatModel.")
    return cls


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


__all__ = ["KINDS", "PolicyError", "build"]
