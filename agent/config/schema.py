"""The tree of settings: every key, its default and its meaning.

A field's docstring is what `lensgraph config` prints above it.
"""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from lensgraph.agent.dialects import DialectName
from lensgraph.tools import guard
from lensgraph.tools.cache import CacheSettings

if TYPE_CHECKING:
    from lensgraph.agent.dialects.base import Dialect


class Section(BaseModel):
    """A part of the tree: unknown keys are errors, attribute docstrings are descriptions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false for a number: pydantic would take them for 1 and 0."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = get_args(annotation) or (annotation,)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise ValueError("must be a number")
        return value


class PolicyConfig(Section):
    """The chat model that decides."""

    model: str = "pocket"
    """`pocket` is the embedded policy; else a model's name or folder, as the kind understands it."""
    kind: str = Field(default_factory=lambda known: "pocket" if known.get("model") == "pocket" else "transformers")
    """`pocket` (a small Qwen2.5-VL on this CPU, loaded in a blink), `transformers` (in this process, any vision-language
    model of the hub, on the GPU if there is one; Qwen-VL many questions at a time), `openai_compatible` (a server
    such as vLLM), or an import path `package.module:Class` of a LangChain chat model. Not set: `pocket` for the model
    `pocket`, else `transformers`."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest turn, in tokens; MMSearch-R1 allows 2048. None: the policy's own default."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the most likely token, which is what the papers evaluate with."""
    base_url: str = "http://127.0.0.1:8000/v1"
    """`openai_compatible` only: where the server is; the default is vLLM's."""
    api_key_env: str | None = None
    """`openai_compatible` only: the environment variable that holds the key. None: the server needs none."""
    timeout: float = Field(default=120.0, gt=0)
    """`openai_compatible` only: seconds to wait for one turn, at every try."""
    retries: int = Field(default=2, ge=0)
    """`openai_compatible` only: further tries after a busy server (429, 5xx; a Retry-After is honoured), a broken
    connection, no turn within `timeout`, or an answer that is none."""
    price_in: float = Field(default=0.0, ge=0)
    """US dollars for a million tokens of prompt; 0 for a policy of one's own. Counted where a reply names its tokens and
    no price."""
    price_out: float = Field(default=0.0, ge=0)
    """US dollars for a million sampled tokens."""
    options: dict[str, Any] = {}
    """Further arguments of the policy's class, as they are: `stop` (strings that end a turn) for every kind; `server`,
    `start_wait`, `concurrency` and `extra_body` for `openai_compatible`."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            parts = urllib.parse.urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # a port above 65535, a broken IPv6 address
            usable = False
        if not usable:
            raise ValueError("must be the address of a server, such as http://127.0.0.1:8000/v1")
        return value


def _dialect(name: str) -> str:
    """The name of a dialect, or an import path, which is followed only when the dialect is built."""
    if name not in get_args(DialectName) and ":" not in name:
        valid = ", ".join(map(repr, get_args(DialectName)))
        raise ValueError(f"Input should be {valid} or an import path package.module:Class")
    return name


class DialectConfig(Section):
    """The dialect: the form in which actions are written. It must be the one that the policy was trained on."""

    name: Annotated[str, AfterValidator(_dialect)] = "compact"
    """`compact` for the pocket policy; `mmsearch_r1` and `deepmmsearch_r1` for the published protocols, the latter
    also for a model that was not trained to search; `tools` for a model that calls tools; or `package.module:Class` of
    your own."""
    lenient: bool = False
    """Also accept near misses (other spellings, unclosed tags, bare answers). Off for parity with the papers."""
    prompts: str | None = None
    """Own wording: a YAML file with the keys of the packaged one; for `mmsearch_r1` also a clone's `prompts` folder.
    None: the packaged wording."""


class ToolSpec(BaseModel):
    """A provider and its options; the provider says which options exist."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, frozen=True)

    use: str = "local"
    """A provider's short name, or an import path `package.module:Class`. Other keys are the provider's options."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`tools.text_search: local` is short for `{use: local}`."""
        return {"use": value} if isinstance(value, str) else value

    @property
    def k(self) -> int | None:
        """The option `k` of a search, if it is set: how many results the provider is asked for and the policy is shown."""
        k = (self.model_extra or {}).get("k")
        return k if isinstance(k, int) and not isinstance(k, bool) and k > 0 else None  # the provider refuses others


class ToolsConfig(Section):
    """The tools that the agent reaches."""

    text_search: ToolSpec = ToolSpec()
    """Search by text. `k` results are asked for and shown to the policy; not set, the provider is asked for its own
    number and as many are shown as the dialect prescribes. `read: {pages: 3}` also reads the first results and shows the
    passage that answers; with `summarise: {model: policy}` (or the settings of another model) below `read`, a summary of
    each page. Keys come from the environment: TAVILY_API_KEY, BRAVE_SEARCH_API_KEY, SERPAPI_API_KEY; for the reader
    `jina`, JINA_API_KEY."""
    image_search: ToolSpec = ToolSpec()
    """Search by image; `k` as for a text search. Keys come from the environment: GOOGLE_VISION_API_KEY,
    SERPAPI_API_KEY, SEARCHAPI_API_KEY."""
    locate: ToolSpec = ToolSpec()
    """Find a region of the picture from words. `served_policy` takes the key of its server, if that wants one, from
    LENSGRAPH_LOCATE_API_KEY."""
    cache: CacheSettings = CacheSettings()
    """The cache of the tools' answers."""


class LimitsConfig(Section):
    """Limits of one question. None: as the dialect prescribes."""

    image_searches: int | None = Field(default=None, ge=0)
    """Image searches, of the whole picture or of a crop."""
    text_searches: int | None = Field(default=None, ge=0)
    """Text searches."""
    tool_calls: int | None = Field(default=None, ge=0)
    """Tool calls of every kind together."""
    turns: int | None = Field(default=None, ge=1, le=100)
    """Turns of the policy; the last one may only answer."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens behind the first prompt, if the policy reports them."""
    seconds: float | None = Field(default=None, gt=0)
    """Wall clock for the whole question."""
    price: float | None = Field(default=None, ge=0)
    """US dollars for the whole question: the tools' `price_per_call`, and of the policy what its replies name (`price` in
    their metadata), or their tokens at `policy.price_in` and `policy.price_out`. A tool's call that would go beyond is not
    made. 0: only what is free."""
    question_chars: int = Field(default=8_000, ge=1)
    """Longest question: about the 4096-token prompt of MMSearch-R1."""
    pictures: int = Field(default=8, ge=1)
    """Most pictures in one question."""

    def overrides(self) -> dict[str, int | float | None]:
        """The values that replace a dialect's own, under the names of `lensgraph.agent.limits.Limits`."""
        return {short: getattr(self, name) for name, short in LIMITS.items()}


LIMITS = {
    "image_searches": "image", "text_searches": "text", "tool_calls": "calls",
    "turns": "turns", "tokens": "tokens", "seconds": "seconds", "price": "price",
}  # fmt: skip
"""Settings of `LimitsConfig` that a dialect prescribes, and their names in `lensgraph.agent.limits.Limits`."""


ApprovalKind = Literal["image_search", "text_search", "crop"]
"""Calls of tools that a person may be asked about, named as in the records."""
PolicyName = Literal["pocket", "transformers", "openai_compatible"]
"""The kinds of policy that a caller may be offered."""


class CallersConfig(Section):
    """The choices that callers of a served graph have, by LangGraph's API or in Studio. They may always lower a limit."""

    policies: list[PolicyName] = []
    """Kinds of policy that a caller may choose besides the configured one. Empty: none."""
    dialects: list[DialectName] = []
    """Dialects that a caller may choose besides the configured one, each with its own limits where `limits.*` sets none.
    Empty: none."""


class ImagesConfig(Section):
    """Pictures."""

    folder: str | None = None
    """Folder for pictures and the searches of each question, so that a thread can go on in another process. Several
    processes may share it. None: pictures are kept in memory only."""
    max_pixels: int = Field(default=guard.MAX_PIXELS, ge=1)
    """Largest picture that is decoded."""
    view_pixels: int = Field(default=672 * 672 * 2, ge=28 * 28)
    """Largest picture sent to the policy; larger ones are scaled down. The value of MMSearch-R1, whose dialect also
    enlarges a small picture of a question to 512 x 512. Tools and crops always work on the original."""
    local_files: bool | str = False
    """Files of this machine that a question may name: none (false), those below one folder, or all (true). Open them only
    to callers whom you trust. `lensgraph ask` reads the files that its user names, and a program's own code gives a
    `pathlib.Path`; neither needs this setting."""

    @field_validator("local_files", mode="before")
    @classmethod
    def _files(cls, value: Any) -> Any:
        if not isinstance(value, bool | str):  # pydantic would name the two types, and neither of them is a fix
            raise ValueError("must be true, false or the path of a folder")
        return value


class Config(Section):
    """Everything that can be set."""

    graph: str = "search_agent"
    """The graph that answers: `search_agent`, a baseline (`rag`, `direct`), or package.module:attribute of a compiled one."""
    policy: PolicyConfig = PolicyConfig()
    """The chat model that decides."""
    dialect: DialectConfig = DialectConfig()
    """The form in which actions are written."""
    tools: ToolsConfig = ToolsConfig()
    """The tools that the agent reaches."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of one question."""
    images: ImagesConfig = ImagesConfig()
    """Pictures."""
    callers: CallersConfig = CallersConfig()
    """The choices that callers of a served graph have."""
    approve: list[ApprovalKind] = []
    """Calls before which the graph stops until a person approves, edits or rejects them: `text_search`, `image_search`, `crop`
    (a region is looked for and cut out, also for an image search). Needs a graph with a checkpointer. A caller may add some."""

    def make_dialect(
        self,
        name: str | None = None,
        *,
        lenient: bool | None = None,
    ) -> Dialect:
        """The dialect with the configured limits, numbers of results and wording. Arguments replace single settings.

        The configured prompts belong to the configured dialect; another one is built with its own wording.
        """
        from lensgraph.agent.dialects.table import build  # imports LangChain, which reading the settings does not need

        name = name or self.dialect.name
        return build(
            name,
            lenient=self.dialect.lenient if lenient is None else lenient,
            limits=self.limits.overrides(),
            prompts=self.dialect.prompts if name == self.dialect.name else None,
            image_hits=self.tools.image_search.k,
            text_hits=self.tools.text_search.k,
        )


def section_at(path: list[str], root: type[BaseModel] | None = None) -> type[BaseModel]:
    """The section at a path of keys; where the path leads into a value, the section that holds it."""
    section = root or Config
    for key in path:
        annotation = section.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return section
