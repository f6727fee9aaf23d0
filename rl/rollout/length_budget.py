"""The token budget of a training row: an episode that does not fit is cut after its last turn that does.

Invariant: nothing earns a reward that is not in the row. Everything after the cut, an answer included, counts
as not said.

The graph itself is not stopped at this budget: it overestimates the tokens of a result
(`lensgraph.agent.nodes.token_budget`) and would shorten the results of episodes that fit. The other bounds on a
dialogue's length are listed in `lensgraph.agent.limits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.rl.rollout.trajectory import Trajectory

Spans = list[tuple[int, int]]
"""First token and one past the last token of every turn of the policy."""


def cut(
    rendered: Rendered, spans: Sequence[tuple[int, int]], max_tokens: int, renderer: Renderer
) -> tuple[Rendered, Spans]:
    """The row up to the last turn that ends within `max_tokens`, with its complete pictures, and the turns in
    it."""
    kept = [span for span in spans if span[1] <= max_tokens]
    end = kept[-1][1] if kept else 0
    pictures = _pictures_before(rendered, end, renderer)
    return Rendered(rendered.ids[:end], rendered.mask[:end], rendered.pixels[:pictures]), kept


def _pictures_before(rendered: Rendered, end: int, renderer: Renderer) -> int:
    """The number of pictures that end before token `end`; a turn never ends inside a picture."""
    left = sum(token == renderer.image_pad for token in rendered.ids[:end])
    merge, count = renderer.processor.merge_size**2, 0
    for picture in rendered.pixels:
        left -= picture.grid[0] * picture.grid[1] * picture.grid[2] // merge
        if left < 0:
            break
        count += 1
    return count


def ended(trajectory: Trajectory, turns: int) -> Trajectory:
    """The episode, ended by the budget after the policy's first `turns` turns.

    A search that the last of these turns asked for was made and counts. The tokens of `trajectory` are cut
    already.
    """
    steps, spoken = [], 0
    for step in trajectory.steps:
        if step.action is not None and spoken == turns:
            break
        spoken += step.action is not None
        steps.append(step)
    if steps:
        steps[-1] = replace(steps[-1], edge=None)
    messages = list(trajectory.messages)
    while sum(said.role == "assistant" for said in messages) > turns:
        messages.pop()
    while turns and messages[-1].role != "assistant":
        messages.pop()
    return replace(
        trajectory,
        answer=None,
        correct=False,
        stop_reason=StopReason.TOKEN_LIMIT.value,
        well_formed=False,
        steps=tuple(steps),
        messages=tuple(messages),
    )
