"""The context of a run: the options that a caller may set, and the backends that they lead to.

Invariants: options that a remote user can set (Studio, the API) are names from lists that the operator gives (`callers.*`)
and numbers that lower a limit, never an import path, an address or a file, because those belong to whoever runs the
server; live objects come from the program's own code, which is free to choose; a backend is built on first use, in a
thread, once a process for equal settings, and shared by all runs.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.runnables.base import RunnableBinding
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PrivateAttr
from pydantic.json_schema import SkipJsonSchema

from lensgraph.agent import config as configuration
from lensgraph.agent import page_summaries
from lensgraph.agent import policy as policies
from lensgraph.agent.config import ApprovalKind, Config, ConfigError, PolicyConfig, PolicyName
from lensgraph.agent.dialects import DialectName
from lensgraph.agent.dialects.base import Dialect
from lensgraph.agent.images import ImageStore, View
from lensgraph.agent.policy.calling.by_id import ByIdPolicy
from lensgraph.agent.policy.calling.shown import materialise
from lensgraph.agent.shared import once, shared_store
from lensgraph.tools import cache, registry
from lensgraph.tools.adapter import adapt
from lensgraph.tools.base import LensTool
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.safety.one_line import named_line, one_line

Limit = Annotated[int, Field(ge=0, le=100)]


class Context(BaseModel):
    """Options of one run. Empty: as configured. Programs may also pass live objects."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)

    policy: PolicyName | SkipJsonSchema[InstanceOf[BaseChatModel]] | None = None
    """The policy that decides: the model in this process (light or through transformers) or the configured model server.
    Others than the configured one must be offered by `callers.policies`. Empty: as configured."""
    dialect: DialectName | SkipJsonSchema[InstanceOf[Dialect]] | None = None
    """The form in which actions are written; it must fit the policy. Others than the configured one must be offered by
    `callers.dialects`. Empty: as configured."""
    lenient: bool | None = None
    """Also accept turns that are nearly well formed. Empty: as configured."""
    max_turns: Annotated[int, Field(ge=1, le=100)] | None = None
    """Most turns of the policy; the last one may only answer. Not more than configured. Empty: as configured."""
    max_image_searches: Limit | None = None
    """Most image searches, of the whole picture or of a crop. Not more than configured. Empty: as configured."""
    max_text_searches: Limit | None = None
    """Most text searches. Not more than configured. Empty: as configured."""
    approve: list[ApprovalKind] = []
    """Calls before which the graph stops until a person approves, edits or rejects them, besides those that are configured."""
    text_search: SkipJsonSchema[InstanceOf[BaseTool] | None] = None
    """A live text-search tool."""
    image_search: SkipJsonSchema[InstanceOf[BaseTool] | None] = None
    """A live image-search tool."""
    locate: SkipJsonSchema[InstanceOf[BaseTool] | None] = None
    """A live locator."""
    store: SkipJsonSchema[InstanceOf[ImageStore] | None] = None
    """A live image store, for example one a training batch."""
    config: SkipJsonSchema[InstanceOf[Config] | None] = None
    """The configuration to start from. None: the file named by LENSGRAPH_CONFIG and the environment."""
    _backends: Backends | None = PrivateAttr(default=None)


class Backends:
    """Everything a node may reach, found from a `Context`. Built off the event loop, because it reads files."""

    def __init__(self, context: Context) -> None:
        config = context.config or default_config()
        if isinstance(context.policy, str):
            _check_offered("policy", context.policy, config.policy.kind, config.callers.policies)
            policy = config.policy.model_copy(update={"kind": context.policy})
            config = config.model_copy(update={"policy": policy})
        self.config, self.context = config, context
        self.dialect = _dialect(context, config)
        self.approve = frozenset([*config.approve, *context.approve])
        self.store = context.store or shared_store(config.images)
        self.view_pixels = config.images.view_pixels
        self._policy = context.policy if isinstance(context.policy, BaseChatModel) else None
        self._chat: ByIdPolicy | None = None
        self._offered: dict[str, Any] | None = None
        # A class that is configured by its import path may raise anything when its service is down.
        self.foreign_policy = self._policy is None and config.policy.kind not in policies.KINDS
        live: dict[registry.Kind, BaseTool | None] = {
            "text_search": context.text_search, "image_search": context.image_search, "locate": context.locate,
        }  # fmt: skip
        self._tools: dict[registry.Kind, LensTool] = {
            kind: tool if isinstance(tool, registry.BASES[kind]) else adapt(kind, tool)
            for kind, tool in live.items()
            if tool is not None
        }

    async def policy(self) -> BaseChatModel:
        """The policy, loaded on first use."""
        if self._policy is None:
            self._policy = await asyncio.to_thread(self.build_policy)
        return self._policy

    async def chat(self) -> ByIdPolicy:
        """The policy as a node calls it, with the ids of pictures."""
        if self._chat is None:
            policy = self.config.policy
            self._chat = ByIdPolicy.around(
                await self.policy(),
                lambda messages: materialise(messages, self.store, self.sizes),
                per_million=(policy.price_in, policy.price_out),
            )
        return self._chat

    def sizes(self, block: Mapping[str, Any]) -> View:
        """The sizes at which the policy is shown the picture of an image block."""
        return self.dialect.view(block, self.view_pixels)

    async def tools(self) -> dict[str, Any]:
        """Further arguments of each call of the policy: the dialect's tools in the policy's own form, if it has any.

        Raises:
            ConfigError: the policy cannot call tools.
        """
        if self._offered is None:
            policy = await self.policy()
            self._offered = await asyncio.to_thread(self._offer, policy) if self.dialect.tools else {}
        return self._offered

    def _offer(self, policy: BaseChatModel) -> dict[str, Any]:
        try:
            bound = policy.bind_tools(self.dialect.tools)
            if isinstance(bound, RunnableBinding):
                return dict(bound.kwargs)
            problem = f"its bind_tools gives a {type(bound).__name__}"
        except (NotImplementedError, ValueError) as error:
            problem = one_line(error, first=True) or "it has no bind_tools"
        raise ConfigError(
            f"dialect.name={self.dialect.name}: this policy cannot call tools ({problem}); set another dialect or policy."
        )

    async def tool(self, kind: registry.Kind) -> LensTool:
        """A tool, built on first use."""
        if kind not in self._tools:
            self._tools[kind] = await asyncio.to_thread(self.build_tool, kind)
        return self._tools[kind]

    def build_policy(self) -> BaseChatModel:
        """The configured policy, one a process for equal settings.

        Raises:
            ConfigError: it cannot be had, or cannot speak the dialect.
        """
        policy = _chat_model(self.config.policy)
        if self.dialect.tools:
            self._offered = self._offer(policy)
        return policy

    def build_tool(self, kind: registry.Kind) -> LensTool:
        """The configured tool, one a process for equal settings."""
        spec = getattr(self.config.tools, kind).model_dump()
        writer = page_summaries.wanted(spec, self.config.policy) if kind == "text_search" else None
        kept = self.config.tools.cache
        parts = [spec, writer and writer.model_dump(), kept.model_dump()]
        key = (kind, json.dumps(parts, sort_keys=True, default=str))

        def make() -> LensTool:
            ready = spec if writer is None else page_summaries.put(spec, writer, _chat_model)
            return _ready(registry.build(kind, ready, cache.shared(kept)))

        try:
            return once(key, make)
        except (registry.ToolConfigError, ToolFailure) as error:
            raise configuration.ConfigError(str(error)) from error
        except (OSError, sqlite3.Error) as error:  # a file that the tool needs
            raise configuration.ConfigError(
                f"tools.{kind}: {named_line(error)}; mend it, or choose another."
            ) from error


def _chat_model(config: PolicyConfig) -> BaseChatModel:
    """A chat model, one a process for equal settings."""
    return once(("policy", config.model_dump_json()), lambda: policies.build(config))


async def backends_of(context: object) -> Backends:
    """The backends of a run. The first node of a run finds them, the others look them up.

    Without a `Context` (none given, or a parent graph with a context of its own) everything is as configured.
    """
    context = context if isinstance(context, Context) else _default_context()
    if context._backends is None:
        context._backends = await asyncio.to_thread(Backends, context)
    return context._backends


@functools.cache
def default_config() -> Config:
    """The configuration of a process that passes none, read once."""
    return configuration.load_config()


@functools.cache
def _default_context() -> Context:
    return Context()


def _ready(tool: LensTool) -> LensTool:
    """The tool after its preparation: building an index for the first time may take longer than a call is given."""
    tool.prepare()
    return tool


CEILINGS = {
    "max_turns": ("turns", "limits.turns"),
    "max_image_searches": ("image", "limits.image_searches"),
    "max_text_searches": ("text", "limits.text_searches"),
}
"""Options of a `Context` that lower a limit: its name in `Limits`, and the setting that is its ceiling."""


def _dialect(context: Context, config: Config) -> Dialect:
    """The dialect of a run, with the limits that the run lowers.

    Raises:
        ConfigError: an option is above its ceiling, or names a dialect that is not offered.
    """
    if isinstance(context.dialect, Dialect):
        dialect = context.dialect
    else:
        if context.dialect is not None:
            _check_offered("dialect", context.dialect, config.dialect.name, config.callers.dialects)
        dialect = config.make_dialect(context.dialect, lenient=context.lenient)
    lower = {limit: getattr(context, name) for name, (limit, _) in CEILINGS.items()}
    if all(value is None for value in lower.values()):
        return dialect
    for name, (limit, setting) in CEILINGS.items():
        ceiling: int | None = getattr(dialect.limits, limit)
        if lower[limit] is not None and ceiling is not None and lower[limit] > ceiling:
            raise ConfigError(
                f"{name}={lower[limit]}: above the ceiling of {ceiling}; give {ceiling} or less, or raise {setting} in the "
                "configuration."
            )
    dialect = copy.copy(dialect)
    dialect.limits = dialect.limits.with_(**lower)
    return dialect


def _check_offered(option: Literal["policy", "dialect"], name: str, configured: str, offered: Sequence[str]) -> None:
    if name != configured and name not in offered:
        setting = {"policy": "callers.policies", "dialect": "callers.dialects"}[option]
        raise ConfigError(
            f"{option}={name}: not offered here; offered: {', '.join(dict.fromkeys([configured, *offered]))} ({setting}). A "
            f"program's own code configures another, or passes a live object."
        )
