"""Find and build the policy that a configuration names.

Invariant: whatever makes a policy impossible (an unknown kind or option, a missing extra, missing weights, a device that is
not there) is a `ConfigError` of one line before the first question, and names the fix.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy import device
from lensgraph.tools.safety.one_line import first_problem, one_line

KINDS = {
    "pocket": "lensgraph.agent.policy.light.policy:LightPolicy",
    "transformers": "lensgraph.agent.policy.qwen.transformers_policy:TransformersPolicy",
    "openai_compatible": "lensgraph.agent.policy.server.openai_compatible:OpenAICompatiblePolicy",
}
"""Short name -> class. Only the module of the chosen kind is imported, because `transformers` needs torch."""
HUB = "lensgraph.agent.policy.hub:HubPolicy"
"""The class that `transformers` means for a checkpoint of none of `lensgraph.agent.policy.families.table`."""
HUB_PACKAGES = ("torch", "transformers")
"""Packages of the extra `hub`, without which a model of the hub cannot run in this process."""
SERVER_FIELDS = ("base_url", "api_key_env", "timeout", "retries")
"""Settings of `PolicyConfig` that only a served policy takes."""
UNREACHED = "We couldn't connect to"
"""The beginning of transformers' message about a model that is neither downloaded nor reachable."""


def build(config: PolicyConfig) -> BaseChatModel:
    """Build the policy that `config` describes.

    Raises:
        ConfigError: the policy cannot be had; the message names the setting and the fix.
    """
    if "api_key" in config.options:
        raise ConfigError(
            "policy.options.api_key: a key is no setting; export it and name its variable: policy.api_key_env."
        )
    target = _target(config)
    cls = _import(target)
    if config.kind in KINDS or target == HUB:
        _refuse_unknown(cls, config.options)
    fields: dict[str, Any] = {"model": config.model, "temperature": config.temperature, **config.options}
    if config.max_new_tokens is not None:
        fields["max_new_tokens"] = config.max_new_tokens
    if config.kind == "openai_compatible":
        fields |= {key: getattr(config, key) for key in SERVER_FIELDS}
    try:
        policy = cls(**fields)
        if target in (KINDS["transformers"], HUB):
            device.require(policy.device)
        # Load now: missing weights are a wrong setting and must not surface in the middle of a question.
        return policy.load() if config.kind in ("pocket", "transformers") else policy
    except ConfigError:
        raise
    except ValidationError as error:
        place = error.errors(include_url=False)[0]["loc"]
        above = ["policy", "options"] if place and place[0] in config.options else ["policy"]
        raise ConfigError(f"{first_problem(error, above)} (kind {config.kind!r}).") from None
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(_no_model(config.model, error)) from error


def check_kind(kind: str) -> None:
    """Check that a kind of policy exists and its packages are installed. Loads nothing, and imports no kind of `KINDS`.

    Raises:
        ConfigError: the kind cannot be used.
    """
    if kind not in KINDS:
        _import(kind)
    if kind == "transformers":
        _require_hub()


def _require_hub() -> None:
    missing = [name for name in HUB_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"policy.kind=transformers needs {' and '.join(missing)}: pip install '.[hub]' in a clone of LensGraph."
        )


def _target(config: PolicyConfig) -> str:
    """Import path of the policy's class. `transformers` means a family with its exact tokens, or any other hub model."""
    if config.kind != "transformers":
        return KINDS.get(config.kind, config.kind)
    _require_hub()
    if config.model == "pocket":
        return KINDS["transformers"]
    families = importlib.import_module("lensgraph.agent.policy.families.table")
    try:
        known = families.model_type(checkpoint(config.model)) in families.FAMILIES
        return KINDS["transformers"] if known else HUB
    except (OSError, ValueError) as error:
        raise ConfigError(_no_model(config.model, error)) from error


def _import(target: str) -> Any:
    """The chat model class at an import path `package.module:Class`."""
    module_name, _, attribute = target.partition(":")
    if not attribute:
        valid = f"{', '.join(KINDS)}, or an import path package.module:Class"
        raise ConfigError(f"policy.kind: unknown kind {target!r}; valid: {valid}.")
    try:
        cls = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigError(
            f"policy.kind: {target!r} cannot be imported ({one_line(error, first=True)}); install it or correct the path."
        ) from error
    except AttributeError as error:
        raise ConfigError(f"policy.kind: module {module_name!r} has no {attribute!r}; correct the path.") from error
    if not (isinstance(cls, type) and issubclass(cls, BaseChatModel)):
        raise ConfigError(
            f"policy.kind: {target!r} is no LangChain chat model; give a class derived from BaseChatModel."
        )
    return cls


def _refuse_unknown(cls: type[BaseModel], options: Mapping[str, Any]) -> None:
    """Refuse options that the class does not have: LangChain's models take any argument, so a misspelt one would do nothing."""
    valid = sorted(set(cls.model_fields) - set(BaseChatModel.model_fields) - {"model", "api_key"})
    for name in options:
        if name not in cls.model_fields and not any(name in _aliases(field) for field in cls.model_fields.values()):
            raise ConfigError(f"policy.options.{name}: unknown option; valid: {', '.join(valid)}.")


def _aliases(field: FieldInfo) -> list[Any]:
    alias = field.validation_alias
    return list(alias.choices) if isinstance(alias, AliasChoices) else [alias]


def _no_model(model: str, error: Exception) -> str:
    """The message about a model that cannot be had: transformers calls a missing path a badly written hub name."""
    if model.startswith(("/", "~", ".")) and not Path(model).expanduser().exists():
        return f"policy.model={model!r}: no such folder; give the folder of a checkpoint, or a hub name"
    if not model.strip():
        return f"policy.model={model!r}: empty; give pocket, the folder of a checkpoint, or a hub name"
    problem = one_line(error, first=True).removeprefix(f"policy.model={model}: ")
    if UNREACHED in problem:
        problem = (
            "not among the downloaded models, and the hub cannot be reached; connect and unset HF_HUB_OFFLINE, or give "
            "the folder of a checkpoint"
        )
    return f"policy.model={model!r}: {problem}"
