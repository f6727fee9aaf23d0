"""The graph's own time: episodes with a policy and tools that answer at once, so that what is left is the graph.

Invariant: nothing is subtracted by estimate. The whole wall time of an episode counts, with LangGraph, LangChain's calls,
escaping, encoding and the image store; only the seconds that the tools report for themselves are subtracted. Between the
episodes a graph of as many empty nodes is run, because machines differ, and one machine from minute to minute.
"""

from __future__ import annotations

import asyncio
import io
import json
import operator
import statistics
import time
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from PIL import Image
from typing_extensions import TypedDict

from lensgraph.agent import testing
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent
from lensgraph.tools.runtime.interval import interval

TURNS = [
    "<reason>I cannot name it.</reason><img_search>the white tower</img_search>",
    "<reason>Now the page.</reason><text_search>kestrel point light automated</text_search>",
    "<text_search>kestrel point light year of automation</text_search>",
    "<reason>The page says 1987.</reason><answer>1987</answer>",
]
"""An episode that visits every node: receive, 4 x reason, crop, image search, 2 x text search, answer."""
PICTURE = (1024, 768)
"""Pixels of the question's picture, a JPEG that is new in every episode, so that it is checked, decoded and encoded."""


def photograph() -> bytes:
    """JPEG bytes of soft shapes with grain, which compress about as a photograph does."""
    width, height = PICTURE
    shapes = Image.effect_noise((width // 32, height // 32), 90).resize(PICTURE, Image.Resampling.BICUBIC)
    grain = Image.effect_noise(PICTURE, 12)
    buffer = io.BytesIO()
    Image.merge("RGB", (shapes, Image.blend(shapes, grain, 0.3), grain)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def main(runs: int, *, as_json: bool) -> int:
    """Measure, print, and return the exit code."""
    figures = measure(runs)
    if as_json:
        print(json.dumps(figures))
        return 0
    low, high = figures["interval"]
    print(f"graph's own time: {figures['ms_per_node']:.2f} ms a node (95 % interval {low:.2f} to {high:.2f})")
    print(f"{runs} episodes of {figures['nodes']} node visits, a new {PICTURE[0]}x{PICTURE[1]} picture each")
    print(
        f"median episode {figures['median']:.2f}, 95th percentile {figures['p95']:.2f}; "
        f"processor time {figures['cpu']:.2f} ms a node"
    )
    print(f"{figures['cpu'] / figures['empty']:.1f} times the {figures['empty']:.2f} ms of LangGraph with empty nodes")
    return 0


def measure(runs: int) -> dict[str, Any]:
    """Milliseconds per node visit over `runs` episodes, with the interval of their mean."""
    graph = search_agent.graph
    samples: list[float] = []
    processor: list[float] = []
    empty: list[float] = []
    nodes = 0
    without = _empty_graph()
    # Built once, as a configuration's are: LangChain reads the signatures and fields of each new one.
    parts = {
        "policy": ScriptedPolicy(TURNS),
        "text_search": testing.FixedText(),
        "image_search": testing.FixedImage(),
        "locate": testing.FixedLocator(),
    }

    async def episodes() -> None:
        nonlocal nodes
        for number in range(-3, runs):  # three to warm up
            own, cpu, nodes = await _episode(graph, number, parts)
            if number >= 0:
                samples.append(own / nodes)
                processor.append(cpu / nodes)
                empty.append(await _empty_episode(without, nodes))

    asyncio.run(episodes())
    ordered = sorted(samples)
    return {
        "ms_per_node": statistics.fmean(samples),
        "interval": list(interval(samples)),
        "median": statistics.median(samples),
        "p95": ordered[int(0.95 * (runs - 1))],
        "cpu": statistics.median(processor),
        "empty": statistics.median(empty),
        "runs": runs,
        "nodes": nodes,
    }


async def _episode(graph: Any, number: int, parts: dict[str, Any]) -> tuple[float, float, int]:
    """One episode: the graph's own milliseconds by the clock and by the processor, and its node visits."""
    picture = photograph()
    context = testing.context(TURNS, **parts)
    started, busy = time.perf_counter(), time.process_time()
    state = await graph.ainvoke(
        {"question": f"When was it automated? {number}", "images": [picture]},
        context=context,
        output_keys=EVERYTHING,
    )
    wall, cpu = time.perf_counter() - started, time.process_time() - busy
    parts["policy"].seen.clear()  # it would keep every picture
    # `receive` and `answer` leave no record; a scripted policy's own time is part of the graph's here.
    elsewhere = sum(step["seconds"] for step in state["steps"] if step["node"] != "reason")
    return (wall - elsewhere) * 1000, cpu * 1000, len(state["steps"]) + 2


class _Count(TypedDict):
    visits: Annotated[list[int], operator.add]


def _empty_graph() -> Any:
    """One node that runs until it has been visited as often as the nodes of an episode, and does nothing else."""

    async def node(state: _Count, config: RunnableConfig) -> dict[str, list[int]]:
        return {"visits": [len(state["visits"])]}

    def after(state: _Count, config: RunnableConfig) -> str:
        return "node" if len(state["visits"]) < config["configurable"]["visits"] else END

    drawn = StateGraph(_Count).add_node("node", node).add_edge(START, "node")
    return drawn.add_conditional_edges("node", after).compile()


async def _empty_episode(graph: Any, nodes: int) -> float:
    """Milliseconds of the processor a node."""
    busy = time.process_time()
    await graph.ainvoke({"visits": []}, {"configurable": {"visits": nodes}})
    return (time.process_time() - busy) * 1000 / nodes
