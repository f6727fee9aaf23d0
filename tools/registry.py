"""From a few lines of configuration to a tool.

`build("text_search", {"use": "local", "index": "my-index"})`: `use` is a provider's short name or any
import path `package.module:Class`; the other keys are the tool's own fields. A foreign LangChain tool, retriever or vector
store is wrapped by `lensgraph.tools.adapter`. Only the provider asked for is imported.

Any text search also takes `read`: its first results are then read, and the passage that answers becomes the snippet:
`{"use": "brave", "read": {"pages": 3, "reader": "fetch", "summarise": {"model": a chat model}}}`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args

from langchain_core.tools import BaseTool
from pydantic import BaseModel, ValidationError

from lensgraph.tools.base import ImageSearch, LensTool, Locator, TextSearch
from lensgraph.tools.cache import Cache
from lensgraph.tools.pages.base import PageReader
from lensgraph.tools.pages.reading import ReadingTextSearch
from lensgraph.tools.pages.summarise import Summariser
from lensgraph.tools.safety.one_line import first_problem, named_line
from lensgraph.tools.safety.redact import shown, without_logins

Kind = Literal["text_search", "image_search", "locate", "read_page"]
"""The kinds of tool, named as the graph calls them."""

BASES: dict[Kind, Any] = {
    "text_search": TextSearch,
    "image_search": ImageSearch,
    "locate": Locator,
    "read_page": PageReader,
}
"""Base class of each kind of tool."""

PROVIDERS: dict[Kind, dict[str, str]] = {
    "text_search": {
        "local": "lensgraph.tools.local.search_pages:LocalTextSearch",
        "tavily": "lensgraph.tools.text.tavily:TavilyTextSearch",
        "serpapi": "lensgraph.tools.text.serpapi:SerpApiTextSearch",
        "brave": "lensgraph.tools.text.brave:BraveTextSearch",
        "searxng": "lensgraph.tools.text.searxng:SearxngTextSearch",
        "duckduckgo": "lensgraph.tools.text.duckduckgo:DuckDuckGoTextSearch",
        "wikipedia": "lensgraph.tools.text.wikipedia:WikipediaTextSearch",
    },
    "image_search": {
        "local": "lensgraph.tools.local.search_pictures:LocalImageSearch",
        "google_vision": "lensgraph.tools.image.google_vision:GoogleVisionImageSearch",
        "serpapi_lens": "lensgraph.tools.image.serpapi_lens:SerpApiLensImageSearch",
        "searchapi_lens": "lensgraph.tools.image.searchapi_lens:SearchApiLensImageSearch",
        "fvqa_cache": "lensgraph.tools.image.fvqa_cache:FvqaCacheImageSearch",
    },
    "locate": {
        "local": "lensgraph.tools.locate.local_locator:LocalLocator",
        "grounding_dino": "lensgraph.tools.locate.grounding_dino:GroundingDinoLocator",
        "owlv2": "lensgraph.tools.locate.owlv2:Owlv2Locator",
        "policy_boxes": "lensgraph.tools.locate.policy_boxes:PolicyBoxLocator",
        "served_policy": "lensgraph.tools.locate.served_policy:ServedPolicyLocator",
    },
    "read_page": {
        "fetch": "lensgraph.tools.pages.fetch:FetchPageReader",
        "tavily": "lensgraph.tools.pages.tavily_extract:TavilyPageReader",
        "jina": "lensgraph.tools.pages.jina:JinaPageReader",
    },
}
"""Short names, kind by kind. The first is the default."""


READING = "tools.text_search.read"
"""Place of the settings of reading, for messages."""

UNUSED_KEY = "a replay calls nobody"
"""Stands for a key in a replay, so that a recorded run can be run again without one."""


class ToolConfigError(ValueError):
    """The configuration of a tool cannot be used; the message names the key and the valid values in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(without_logins(message))


def build(kind: Kind, spec: Mapping[str, Any] | None = None, cache: Cache | None = None) -> LensTool:
    """The tool that `spec` describes; an empty spec is the embedded default. `cache`: asks the same only once."""
    replays = cache is not None and cache.settings.mode == "replay"
    tool = _build(kind, spec, replays=replays)
    return tool if tool.on_this_machine else tool.use_cache(cache)


def check(kind: Kind, spec: Mapping[str, Any] | None = None) -> None:
    """Refuse an unknown provider, and settings that it does not take. Nothing is built: no service's key has to be there, and
    neither an index nor a model is loaded.

    Raises:
        ToolConfigError: the message says in one line what is wrong.
    """
    options = dict(spec or {})
    if kind == "text_search" and (reading := options.pop("read", None)) is not None:
        check("read_page", _reading_options(reading)[0])
    _, provider = _found(kind, options)
    for name, part in _parts_of(provider, options):
        check(part, _settings_of_part(f"tools.{kind}.{name}", options[name]))


def _found(kind: Kind, options: dict[str, Any]) -> tuple[str, Any]:
    """The name and the class (or ready object) that these options of a tool ask for; `use` is taken out of them."""
    use = options.pop("use", next(iter(PROVIDERS[kind])))
    provider = load_provider(kind, use)
    if isinstance(provider, type) and issubclass(provider, BASES[kind]):
        if inspect.isabstract(provider):
            raise ToolConfigError(f"tools.{kind}.use: {use!r} is abstract; give a class that implements it.")
        valid = sorted(_own_fields(provider) | ({"read"} if kind == "text_search" else set()))
        unknown = sorted(set(options) - set(valid))
        if unknown:
            raise ToolConfigError(
                f"tools.{kind}: unknown {_keys(unknown)} for {use!r}; valid keys: {', '.join(valid)}."
            )
    else:
        from lensgraph.tools.adapter import is_foreign  # only foreign tools need it

        if not is_foreign(provider):
            raise ToolConfigError(
                f"tools.{kind}.use: {use!r} is no LangChain tool; subclass {BASES[kind].__name__} or BaseTool, or name a "
                "retriever, a vector store, or a function without arguments that gives one."
            )
        if isinstance(provider, type):
            _refuse_unknown(options, _settings_of(provider), f"tools.{kind} ({use})")
        elif options:
            raise ToolConfigError(
                f"tools.{kind}: {use!r} is a ready tool and takes no {_keys(sorted(options))}; remove it."
            )
    return use, provider


def _parts_of(provider: Any, options: Mapping[str, Any]) -> list[tuple[str, Kind]]:
    """The options of a provider that are settings of another tool, and the kind of each."""
    parts: Mapping[str, Kind] = getattr(provider, "parts", {})
    given = [(name, options.get(name), part) for name, part in parts.items()]
    return [(name, part) for name, value, part in given if value is not None and not isinstance(value, LensTool)]


def _settings_of_part(where: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, str | Mapping):
        raise ToolConfigError(f"{where}={shown((), given)}: must be a name, or hold keys such as `use: local`.")
    return {"use": given} if isinstance(given, str) else given


def _settings_of(foreign: type[BaseModel]) -> list[str]:
    """The settings that a foreign class takes, by their names and aliases."""
    aliases = {field.alias for field in foreign.model_fields.values() if field.alias}
    return sorted(aliases | set(foreign.model_fields))


def _build(kind: Kind, spec: Mapping[str, Any] | None, *, replays: bool) -> LensTool:
    if kind not in get_args(Kind):
        raise ToolConfigError(f"Unknown kind of tool {kind!r}; valid kinds: {', '.join(get_args(Kind))}.")
    options = dict(spec or {})
    reading = options.pop("read", None) if kind == "text_search" else None
    if reading is not None:
        return _reading(_build(kind, options, replays=replays), reading, replays=replays)
    use, provider = _found(kind, options)
    if not (isinstance(provider, type) and issubclass(provider, BASES[kind])):
        return _adapt(kind, use, provider, options)
    tool_class: type[LensTool] = provider
    if replays and "api_key" in tool_class.model_fields:
        options["api_key"] = UNUSED_KEY
    for name, part in _parts_of(tool_class, options):
        options[name] = _build(part, _settings_of_part(f"tools.{kind}.{name}", options[name]), replays=replays)
    try:
        return tool_class(**options)
    except ValidationError as error:
        raise ToolConfigError(f"tools.{kind} ({use}): {first_problem(error)}") from None


def _reading(search: LensTool, reading: Any, *, replays: bool) -> LensTool:
    """A text search whose results are read, from the settings under its `read`."""
    spec, options = _reading_options(reading)
    if (summarise := options.pop("summarise", None)) is not None:
        options["summariser"] = _summariser(summarise, f"{READING}.summarise")
    reader = _build("read_page", spec, replays=replays)
    assert isinstance(search, TextSearch) and isinstance(reader, PageReader)  # `_build` gives what the kind says
    try:
        return ReadingTextSearch(search_tool=search, reader=reader, description=search.description, **options)
    except ValidationError as error:
        raise ToolConfigError(f"{READING}: {first_problem(error)}") from None


def _reading_options(reading: Any) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The settings of the page reader, and the other ones under `read`."""
    if not isinstance(reading, Mapping):
        raise ToolConfigError(f"{READING}={shown((), reading)}: must hold keys such as `pages: 3`.")
    options = dict(reading)
    reader = _settings_of_part(f"{READING}.reader", options.pop("reader", None) or {})
    valid = sorted({*_own_fields(ReadingTextSearch), "reader", "summarise"} - {"search_tool", "summariser", "k"})
    _refuse_unknown(options, valid, READING)
    return reader, options


def _summariser(summarise: Any, where: str) -> Summariser:
    if not isinstance(summarise, Mapping):
        raise ToolConfigError(f"{where}={shown((), summarise)}: must hold a `model`: a chat model.")
    _refuse_unknown(summarise, sorted(Summariser.model_fields), where)
    try:
        return Summariser(**summarise)
    except ValidationError as error:
        raise ToolConfigError(f"{where}: {first_problem(error)}") from None


def _refuse_unknown(options: Mapping[str, Any], valid: list[str], where: str) -> None:
    unknown = sorted(set(options) - set(valid))
    if unknown:
        raise ToolConfigError(f"{where}: unknown {_keys(unknown)}; valid keys: {', '.join(valid)}.")


def _own_fields(tool_class: type[LensTool]) -> set[str]:
    """Settings of a tool: the fields that it adds to every LangChain tool, and its name and description."""
    return set(tool_class.model_fields) - set(BaseTool.model_fields) | {"name", "description"}


def load_provider(kind: Kind, use: Any) -> Any:
    """The class, ready object or function behind a short name or an import path."""
    names = PROVIDERS[kind]
    help_ = f"valid names: {', '.join(names)}, or an import path such as 'package.module:Class'"
    if not isinstance(use, str) or (use not in names and ":" not in use):
        raise ToolConfigError(f"tools.{kind}.use: unknown provider {use!r}; {help_}.")
    module_name, _, attribute = names.get(use, use).partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        missing = error.name or module_name
        fix = "install the package that holds it, or correct the name"
        if missing.partition(".")[0] == "langchain_community":
            fix = "pip install '.[community]' in a clone of LensGraph"
        raise ToolConfigError(
            f"tools.{kind}.use: {use!r} needs the module {missing!r}, which cannot be imported; {fix}."
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise ToolConfigError(f"tools.{kind}.use: module {module_name!r} has no {attribute!r}; {help_}.") from error


def _adapt(kind: Kind, use: str, provider: Any, options: dict[str, Any]) -> LensTool:
    from lensgraph.tools.adapter import adapt  # only foreign tools need it

    try:
        ready = provider(**options) if isinstance(provider, type) or inspect.isfunction(provider) else provider
    except ValidationError as error:
        raise ToolConfigError(f"tools.{kind} ({use}): {first_problem(error)}") from None
    except Exception as error:  # the boundary to foreign code
        raise ToolConfigError(f"tools.{kind} ({use}): {named_line(error, first=True)}") from error
    try:
        return adapt(kind, ready)
    except ValueError as error:
        raise ToolConfigError(f"tools.{kind}.use: {error}") from error


def _keys(names: list[str]) -> str:
    return f"key{'s' if len(names) > 1 else ''} {', '.join(repr(name) for name in names)}"
