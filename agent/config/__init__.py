"""One tree of settings, read from YAML, the environment and dotted overrides, in that order of increasing weight.

Invariant: what `load` returns is complete and checked; whatever is wrong with a setting becomes one `ConfigError`, one
line that names the setting, its value and the valid ones. No secret is ever a setting: keys are named by the
environment variable that holds them, so the effective configuration can be printed. A setting that is named like a secret or
begins like the key of a known service is an error; what only looks like a key, and a login in an address, is printed as `***`.
"""

from __future__ import annotations

import difflib
import os
import re
import textwrap
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from lensgraph.agent.errors import UserError
from lensgraph.tools import guard
from lensgraph.tools.cache import CacheSettings
from lensgraph.tools.safety.errors import one_line
from lensgraph.tools.safety.redact import (
    HIDDEN,
    begins_like_key,
    is_credential,
    is_secret,
    looks_like_key,
    shown,
    without_keys,
)

PREFIX = "LENSGRAPH_"
CONFIG_VARIABLE = "LENSGRAPH_CONFIG"
"""Names the YAML file to read if the program names none; the way to configure `langgraph dev`."""
OTHER_VARIABLES = ("config", "home", "locate_api_key")
"""Variables with the prefix that are no settings."""
READY = Path(__file__).parent / "ready"
"""Configurations that ship with the package; each is selected by its bare name."""


class ConfigError(UserError):
    """A setting that cannot be used."""


class Section(BaseModel):
    """A part of the tree: unknown keys are errors, attribute docstrings are descriptions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for 1."""
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
    model of the hub, on the GPU if there is one; Qwen2.5-VL many questions at a time), `openai_compatible` (a server
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


class DialectConfig(Section):
    """How actions are written as text. It must be the one that the policy was trained on."""

    name: Literal["compact", "deepmmsearch_r1", "mmsearch_r1"] = "compact"
    """`compact` for the pocket policy; `mmsearch_r1` and `deepmmsearch_r1` for the published protocols, the latter
    also for a model that was not trained to search."""
    lenient: bool = False
    """Also accept near misses (other spellings, unclosed tags, bare answers). Off for parity with the papers."""
    prompts: str | None = None
    """Own wording: a YAML file with the keys of the packaged one; for `mmsearch_r1` also a clone's `prompts` folder.
    None: the packaged wording."""


class ToolSpec(BaseModel):
    """A provider and its options; which options exist is the provider's business."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, frozen=True)

    use: str = "local"
    """A provider's short name, or an import path `package.module:Class`. Other keys are the provider's options."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value


class ToolsConfig(Section):
    """What the agent reaches."""

    text_search: ToolSpec = ToolSpec()
    """Search by text. `read: {pages: 3}` also reads the first results and shows the passage that answers; with
    `summarise: {model: policy}` (or the settings of another model) below `read`, a summary of each page. Keys come from the
    environment: TAVILY_API_KEY, BRAVE_SEARCH_API_KEY, SERPAPI_API_KEY; for the reader `jina`, JINA_API_KEY."""
    image_search: ToolSpec = ToolSpec()
    """Search by image. Keys come from the environment: GOOGLE_VISION_API_KEY, SERPAPI_API_KEY, SEARCHAPI_API_KEY."""
    locate: ToolSpec = ToolSpec()
    """Find a region of the picture from words. `served_policy` takes the key of its server, if that wants one, from
    LENSGRAPH_LOCATE_API_KEY."""
    cache: CacheSettings = CacheSettings()
    """What is kept of what these answered."""


class LimitsConfig(Section):
    """What one question may spend. None: what the dialect's protocol allows."""

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
    question_chars: int = Field(default=8_000, ge=1)
    """Longest question: about the 4096-token prompt of MMSearch-R1."""
    pictures: int = Field(default=8, ge=1)
    """Most pictures in one question."""

    def overrides(self) -> dict[str, int | float | None]:
        """The values that replace a dialect's own, under the names of `lensgraph.agent.limits.Limits`."""
        return {
            "image": self.image_searches, "text": self.text_searches, "calls": self.tool_calls,
            "turns": self.turns, "tokens": self.tokens, "seconds": self.seconds,
        }  # fmt: skip


class ImagesConfig(Section):
    """Pictures."""

    folder: str | None = None
    """Where to keep pictures and the searches of each question, so that a thread can go on in another process. Several
    processes may share it. None: pictures are kept in memory only."""
    max_pixels: int = Field(default=guard.MAX_PIXELS, ge=1)
    """Largest picture that is decoded."""
    view_pixels: int = Field(default=672 * 672 * 2, ge=28 * 28)
    """Largest picture sent to the policy; larger ones are scaled down. The value of MMSearch-R1, whose dialect also
    enlarges a small picture of a question to 512 x 512. Tools and crops always work on the original."""
    local_files: bool | str = True
    """Whether a question may name files of this machine: all (true), none (false), or those below one folder. Limit it
    when strangers, or a model, can ask."""

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
    """How actions are written as text."""
    tools: ToolsConfig = ToolsConfig()
    """What the agent reaches."""
    limits: LimitsConfig = LimitsConfig()
    """What one question may spend."""
    images: ImagesConfig = ImagesConfig()
    """Pictures."""


def load(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The effective configuration: defaults, then YAML, then `LENSGRAPH_A__B=value`, then `a.b=value`."""
    environ = os.environ if environ is None else environ
    path = path or environ.get(CONFIG_VARIABLE) or None
    tree: dict[str, Any] = _read_yaml(find(path)) if path else {}
    _refuse_secrets(tree, tree)
    for name, value in environ.items():
        keys = name.removeprefix(PREFIX).lower().split("__")
        # Single words such as LENSGRAPH_HOME belong to other parts of the package.
        if name.startswith(PREFIX) and (len(keys) > 1 or keys[0] in Config.model_fields):
            _set(tree, keys, _value(value), name)
            _refuse_secrets(tree, tree)
        elif name.startswith(PREFIX) and (meant := _meant(keys[0])):
            raise ConfigError(f"{name}: no variable of this program; did you mean {meant}? Rename or unset it.")
    for override in overrides:
        dotted, equals, value = override.partition("=")
        if not equals or not dotted:
            raise ConfigError(f"{shown((), override)} is not a setting; write it as key.key=value.")
        _set(tree, dotted.split("."), _value(value), dotted)
        _refuse_secrets(tree, tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(without_keys(_explain(error))) from None  # its own text repeats every value


def _meant(word: str) -> str:
    """The variable that a single word behind the prefix is a slip of; empty if it looks like none. Other words are let be:
    a platform sets some of its own, such as LENSGRAPH_PORT for a service of that name."""
    for section in Config.model_fields:
        if word.startswith(f"{section}_") and word.removeprefix(f"{section}_") in _section([section]).model_fields:
            return f"{PREFIX}{section}__{word.removeprefix(f'{section}_')}".upper()
    # LENSGRAPH_IMAGE is what a deployment calls the image of its container, so not these
    sections = [name for name in Config.model_fields if name not in ("images", "tools", "limits")]
    close = difflib.get_close_matches(word, [*sections, *OTHER_VARIABLES], n=1, cutoff=0.75)
    if not close or close[0] == word:
        return ""
    below = "__..." if close[0] in Config.model_fields and close[0] != "graph" else ""
    return f"{PREFIX}{close[0].upper()}{below}"


def ready() -> list[str]:
    """The names of the configurations that ship with the package."""
    return sorted(path.stem for path in READY.glob("*.yaml"))


def find(path: str | Path) -> Path:
    """The file that is meant: a path, or the bare name of a configuration that ships with the package."""
    given = Path(path).expanduser()
    if given.suffix or len(given.parts) != 1 or given.exists():
        return given
    if given.name in ready():
        return READY / f"{given.name}.yaml"
    raise ConfigError(
        f"{without_keys(str(given))}: no such file, and no ready configuration; ready ones: {', '.join(ready())}."
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({one_line(error, 120)}); correct that line.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: must hold keys such as `policy:`, not {type(found).__name__}.")
    return found


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        return text


def _set(tree: dict[str, Any], keys: list[str], value: Any, name: str) -> None:
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if isinstance(below, str):  # `tools.text_search: local` is short for `{use: local}`
            below = tree[key] = {"use": below}
        if not isinstance(below, dict):
            raise ConfigError(
                f"{name}: {key!r} is the value {shown((key,), below)} and has no settings below it; set {key!r} itself."
            )
        tree = below
    tree[keys[-1]] = value


def _refuse_secrets(tree: dict[str, Any], value: Any, path: tuple[str, ...] = ()) -> None:
    """A key in a file or on a command line would be kept and printed; it belongs into the environment."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    for name, below in value.items():
        where = (*path, str(name))
        named = ".".join(HIDDEN if looks_like_key(part) else part for part in where)
        # `sort_key` and the like are settings, unless what they hold says otherwise
        certain = is_credential(str(name)) or str(name).lower() in ("key", "keys", "token")
        if below is not None and (
            certain or (is_secret(str(name)) and isinstance(below, str) and looks_like_key(below))
        ):
            raise ConfigError(f"{named}: a key is no setting; {_how_to_give(tree, where)}.")
        if str(name).endswith("_env") and isinstance(below, str) and below and not _names_variable(below):
            raise ConfigError(
                f"{named}: takes the name of an environment variable, such as MY_KEY, and what is given (not "
                "shown) is none. If it is the key itself: export MY_KEY=..., and give MY_KEY here."
            )
        if isinstance(below, str) and begins_like_key(below):
            raise ConfigError(
                f"{named}: what is given (not shown) looks like a key, and a key is no setting; "
                f"{_how_to_give(tree, where)}. If it is the name of a file: begin it with ./"
            )
        _refuse_secrets(tree, below, where)


def _names_variable(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) is not None and not looks_like_key(text)


def _how_to_give(tree: dict[str, Any], where: tuple[str, ...]) -> str:
    """How the key that was written at this place is given instead."""
    if where[0] == "policy":
        return "export it and name its variable: policy.api_key_env"
    if "model" in where[:-1]:
        return f"export it and name its variable: {'.'.join(where[: where.index('model') + 1])}.api_key_env"
    if "publisher" in where[:-1]:
        return "export AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for temporary keys, AWS_SESSION_TOKEN"
    variable = _key_variable(tree, where)
    return f"export it as {variable}" if variable else "export it in the environment variable that the provider reads"


def _key_variable(tree: dict[str, Any], where: tuple[str, ...]) -> str:
    """The environment variable that the provider at this place reads; empty if it names none."""
    from lensgraph.tools import registry  # only who made this mistake pays for it

    spec: Any = tree
    for name in where[:-1]:
        spec = spec.get(name) if isinstance(spec, dict) else None
    kind: registry.Kind | None = "read_page" if where[-2:-1] == ("reader",) else None
    for known in registry.PROVIDERS:
        kind = known if where[:-1] == ("tools", known) else kind
    if kind is None or not isinstance(spec, dict):
        return ""
    try:
        provider = registry.load(kind, spec.get("use", next(iter(registry.PROVIDERS[kind]))))
    except registry.ToolConfigError:
        return ""
    return str(getattr(provider, "key_variable", ""))


def _explain(error: ValidationError) -> str:
    """The first problem in one line."""
    problem = error.errors(include_url=False)[0]
    where = [str(part) for part in problem["loc"]]
    name = ".".join(HIDDEN if looks_like_key(part) else part for part in where)
    if problem["type"] == "extra_forbidden":
        valid = _section(where[:-1]).model_fields
        close = difflib.get_close_matches(where[-1], valid, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{name}: unknown key; {hint}Valid keys{' of ' + '.'.join(where[:-1]) if where[:-1] else ''}: {', '.join(valid)}."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "model_type":
        message = f"has settings below it; set one of them: {', '.join(f'{name}.{key}' for key in _section(where).model_fields)}"
    value = shown(where, problem["input"])
    return f"{name}={value if len(value) <= 80 else value[:77] + '...'}: {message}."


def _section(path: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for key in path:
        annotation = section.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        section = annotation
    return section


def render(config: BaseModel, indent: int = 0) -> str:
    """The configuration as YAML, each setting under a comment that says what it means."""
    lines: list[str] = []
    pad = "  " * indent
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        description = " ".join((field.description or "").split())
        lines += [f"{pad}# {part}" for part in _wrapped(description, 100 - len(pad))]
        if isinstance(value, BaseModel):
            lines.append(f"{pad}{name}:")
            lines.append(render(value, indent + 1).rstrip("\n"))
            lines += [_plain({key: extra}, pad + "  ") for key, extra in (value.model_extra or {}).items()]
        else:
            lines.append(_plain({name: value}, pad))
    return "\n".join(lines) + "\n"


def _plain(value: dict[str, Any], pad: str) -> str:
    """A setting as YAML, every line of it behind `pad`."""
    text = yaml.safe_dump(_printable(value), default_flow_style=False, sort_keys=False, allow_unicode=True, width=1000)
    return textwrap.indent(text.rstrip("\n"), pad)


def _printable(value: Any) -> Any:
    """The value without what looks like a key; a program may also have put in objects, which YAML cannot hold."""
    if isinstance(value, Mapping):
        return {key: _printable(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(below) for below in value]
    if isinstance(value, int | float) or value is None:
        return value
    return without_keys(str(value))


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width)
