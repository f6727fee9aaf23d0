"""A budget of tokens for one training row, and what an episode is that did not fit into it.

Invariant: nothing earns a reward that is not in the row. An episode whose last turns do not fit ends behind the last one that
does: what came after it, an answer included, is taken for never said.

The other bounds on a dialogue's length are listed in `lensgraph.agent.limits`. The graph itself is not stopped at this
budget: it counts a result's tokens high (`lensgraph.agent.nodes.token_budget`) and would shorten what the policy reads
of episodes that fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.rl.rollout.trajectory import Trajectory

Spans = list[tuple[int, int]]
"""First and one past the last token of every turn of the policy."""


def cut(
    rendered: Rendered, spans: Sequence[tuple[int, int]], max_tokens: int, renderer: Renderer
) -> tuple[Rendered, Spans]:
    """The row up to the last turn that ends within `max_tokens`, its whole pictures, and its turns."""
    kept = [span for span in spans if span[1] <= max_tokens]
    end = kept[-1][1] if kept else 0
    pictures = _pictures_before(rendered, end, renderer)
    return Rendered(rendered.ids[:end], rendered.mask[:end], rendered.pixels[:pictures]), kept


def _pictures_before(rendered: Rendered, end: int, renderer: Renderer) -> int:
    """How many pictures lie wholly before token `end`; a turn never ends inside a picture."""
    left = sum(token == renderer.image_pad for token in rendered.ids[:end])
    merge, count = renderer.processor.merge_size**2, 0
    for picture in rendered.pixels:
        left -= picture.grid[0] * picture.grid[1] * picture.grid[2] // merge
        if left < 0:
            break
        count += 1
    return count


def ended(trajectory: Trajectory, turns: int) -> Trajectory:
    """The episode as one that the budget ended behind the policy's first `turns` turns; a search that the last of them asked
    for was made and counts. Its tokens are those of the row already."""
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
