"""Answers the question of `lensgraph ask`: checks, loads, runs the graph, shows each step as it happens.

Invariant: settings and picture are checked before LangChain, LangGraph or an index is imported; those are then loaded side
by side, because importing them is most of what a warm question costs.
"""

from __future__ import annotations

import gc
import importlib.util
import sys
import uuid
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lensgraph.agent import config as configuration
from lensgraph.agent.config import Config
from lensgraph.agent.errors import BadInput, UserError
from lensgraph.graphs import table
from lensgraph.graphs.program import reviewing
from lensgraph.graphs.program.config import check
from lensgraph.tools import guard
from lensgraph.tools.results import ToolFailure
from lensgraph.tools.runtime import loops, output

if TYPE_CHECKING:
    from lensgraph.agent.context import Context
    from lensgraph.graphs.program.show import Show

ANSWERED, GAVE_UP = 0, 1
SMALL = 32
"""Pixels per side below which a note says that the picture shows little: a token of the policy covers 28."""


def ask(
    pictures: Sequence[str],
    question: str,
    config_file: str | None,
    settings: list[str],
    *,
    as_json: bool,
    show_raw: bool,
    approve: Sequence[str] = (),
) -> int:
    """Print the answer; the return value is the exit code. The person at the terminal decides about the calls of `approve`."""
    config = configuration.load_config(config_file, settings)
    if approve:  # checked like a setting
        both = ",".join([*config.approve, *approve])
        config = configuration.load_config(config_file, [*settings, f"approve=[{both}]"])
    data, small = _read(pictures, question, config)
    if not sys.warnoptions:  # warnings are for programmers, and `-W` brings them back
        warnings.simplefilter("ignore")
    gc.disable()  # imports make millions of objects that stay; collecting among them takes a tenth of the start
    try:
        with ThreadPoolExecutor() as pool:
            context, graph = _load(config, pool)
        gc.freeze()
    finally:
        gc.enable()
    from lensgraph.graphs.program.show import Show

    show = None if as_json else Show(raw=show_raw)
    for warning in small:
        if show is not None:
            show.warn(warning)
        else:
            print(f"lensgraph ask: {warning}", file=sys.stderr)
    result = _reviewed(graph, context, {"question": question, "images": data}, show)
    if show is not None:
        show.end(result)
    else:
        print(output.as_json(as_object(result)))
    if result["error"]:
        print(f"lensgraph ask: {result['error']}", file=sys.stderr)
    return ANSWERED if result["stop_reason"] == "answered" else GAVE_UP


def _read(pictures: Sequence[str], question: str, config: Config) -> tuple[list[bytes], list[str]]:
    """Bytes of the pictures, checked, and a warning for each that is small. The graph would refuse bad ones too, but only
    after the heavy imports."""
    limits = config.limits
    if len(question) > limits.question_chars:
        raise UserError(
            f"the question has {len(question):,} characters, the limit is {limits.question_chars:,} "
            "(limits.question_chars); shorten it"
        )
    if len(pictures) > limits.pictures:
        raise UserError(
            f"{len(pictures)} pictures in one question, the limit is {limits.pictures} (limits.pictures); send fewer"
        )
    found, small = [], []
    for picture in pictures:
        try:
            if picture.lower().startswith(("http://", "https://")):
                data, name = loops.run(guard.fetch(picture)), picture[:120]
            else:
                data, name = guard.image_bytes(picture)
            image = guard.open_image(data, name=name, max_pixels=config.images.max_pixels)
        except ToolFailure as error:
            raise UserError(str(error)) from error
        found.append(data)
        if min(image.size) < SMALL:
            size = f"{image.width}x{image.height}"
            small.append(f"{name}: {size} pixels are too few to see much; give at least {SMALL} a side")
    return found, small


def _load(config: Config, pool: ThreadPoolExecutor) -> tuple[Context, Any]:
    """The graph and its backends: the policy's imports and weights in one thread, the tools' in another."""
    early: list[Future[Any]] = []
    # torch takes as long to import as all the rest together; where it is not installed the policy says so
    if config.policy.kind == "transformers" and importlib.util.find_spec("torch"):
        early.append(pool.submit(importlib.import_module, "torch"))
    from lensgraph.agent.context import Backends, Context

    context = Context(config=config)
    backends = Backends(context)
    context._backends = backends
    for future in early:
        future.result()
    policy = pool.submit(backends.build_policy)
    graph = table.find(config.graph)
    if config.approve:
        from langgraph.checkpoint.memory import InMemorySaver

        graph = table.build(config.graph, InMemorySaver())
    check(config)
    policy.result()  # a wrong setting is reported before an index is built
    for kind in table.tools_of(config.graph):
        backends.build_tool(kind)
    return context, graph


def _reviewed(graph: Any, context: Context, given: Any, show: Show | None) -> dict[str, Any]:
    """Run the graph to its end, and ask the person at the terminal about every call that waits."""
    from langgraph.types import Command

    from lensgraph.graphs.asking import INTERRUPTS, finished

    result: dict[str, Any] = {"error": None, "malformed": []}
    thread = {"configurable": {"thread_id": uuid.uuid4().hex}} if graph.checkpointer else None
    loops.run(_run(graph, context, given, thread, show, result))
    while thread is not None and (waiting := result.pop(INTERRUPTS, ())):
        decided: Command[Any] = Command(resume={one.id: reviewing.decide(one.value) for one in waiting})
        try:
            loops.run(_run(graph, context, decided, thread, show, result))
        except BadInput as error:  # it is no decision, and all still wait
            reviewing.say_refused(error)
            result[INTERRUPTS] = waiting
    return dict(finished(result))


async def _run(
    graph: Any, context: Context, given: Any, thread: Any, show: Show | None, result: dict[str, Any]
) -> None:
    """Run the graph and show each step as it arrives. Puts the graph's output and the last error of the policy into `result`,
    or what waits for a person."""
    from lensgraph.agent.usage import faults

    # Closed also when a step cannot be shown: left to itself, the graph would complain at the end of the loop.
    async with aclosing(graph.astream(given, thread, context=context, stream_mode="updates")) as updates:
        async for update in updates:
            for node, values in update.items():
                if not isinstance(values, dict):
                    result[node] = values
                    continue
                for step in values.get("steps", []):
                    if step["node"] == "reason" and step.get("error"):
                        result["error"] = step["error"]
                    elif reasons := faults(step):
                        said = {"turn": step["turn"], "reason": "; ".join(reasons), "text": step["text"]}
                        result["malformed"].append(said)
                    if show is not None:
                        show.step(step)
                result.update(
                    {key: values[key] for key in ("answer", "sources", "usage", "stop_reason") if key in values}
                )


def as_object(result: dict[str, Any]) -> dict[str, Any]:
    """The object that `--json` prints."""
    usage = result["usage"]
    return {
        "answer": result["answer"],
        "sources": result["sources"],
        "turns": usage["turns"],
        "searches": usage["searches"],
        "stop_reason": result["stop_reason"],
        "usage": usage,
        "malformed": result["malformed"],
    }
