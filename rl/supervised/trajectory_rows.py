"""Training rows from recorded trajectories, such as those of a larger policy."""

from __future__ import annotations

import io
import random
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from PIL import Image

from lensgraph.agent.dialects.table import tools_of
from lensgraph.agent.policy.render import Rendered, Renderer
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStore


class TrajectoryRows:
    """Draws training rows from right trajectories, each once an epoch; every epoch has an order of its own.

    Raises:
        ValueError: the store holds no right trajectory.
    """

    def __init__(self, store: TrajectoryStore, renderer: Renderer, seed: int) -> None:
        self.store, self.renderer, self.seed = store, renderer, seed
        self.right = [trajectory for trajectory in store if trajectory.correct and trajectory.error is None]
        if not self.right:
            raise ValueError(f"{store.folder}: no trajectory with a right answer; there is nothing to imitate")

    def row(self, number: int) -> Rendered:
        """Training row `number`."""
        epoch, place = divmod(number, len(self.right))
        order = random.Random(f"{self.seed}/{epoch}").sample(range(len(self.right)), len(self.right))
        right = self.right[order[place]]
        return self.renderer.render(self.messages(right), generate=False, tools=tools_of(right.dialect))

    def messages(self, trajectory: Trajectory) -> list[BaseMessage]:
        """The trajectory as chat messages, up to the policy's last turn."""
        messages: list[BaseMessage] = []
        for said in trajectory.messages:
            if said.role == "assistant":
                messages.append(AIMessage(said.text))
                continue
            blocks: list[str | dict[str, Any]] = [self._block(block) for block in said.blocks]
            told = ToolMessage(said.text, tool_call_id="") if said.role == "tool" else HumanMessage(blocks)
            messages.append(told)
        while messages and not isinstance(messages[-1], AIMessage):
            messages.pop()
        return messages

    def _block(self, block: dict[str, str]) -> dict[str, Any]:
        if block["type"] != "image":
            return dict(block)
        picture = Image.open(io.BytesIO(self.store.picture(block["id"])))
        return {"type": "image", "id": block["id"], "image": picture}
