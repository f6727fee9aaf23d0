"""Episodes that failed for no fault of the policy, and the share of them that ends a run.

A few failures are masked (training) or counted as wrong (evaluation), and the run goes on. With more of them it would go on
with the few episodes that did not need what is broken, so it ends and says what failed and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lensgraph.agent.errors import UserError
from lensgraph.agent.limits import StopReason
from lensgraph.agent.policy import PolicyError
from lensgraph.rl.rollout.trajectory import OUTSIDE, Trajectory

MAX_FAILED_SHARE = 0.2
"""Default share of failed episodes above which a run ends."""
ENOUGH = 20
"""Episodes after which a run that counts as it goes (evaluation, balancing) compares the share for the first time."""
TOLD = 3
"""Most kinds of failure in the message."""


class TooManyFailed(UserError):
    """More episodes failed than the run allows. The message says what failed, how often and why."""


def of_step(node: str, error: str | None) -> tuple[str, str] | None:
    """(what failed, why) of a step's record; None: it worked, or what failed is the policy's own doing."""
    reason, _, message = (error or "").partition(":")
    return (f"{node}/{reason}", message.strip()) if reason in (*OUTSIDE, PolicyError.reason) else None


def of_episode(trajectory: Trajectory, *, judged: bool = False) -> list[tuple[str, str]]:
    """(what failed, why) of every failure in an episode; `judged`: a judge is asked, so an episode that ended and has no
    reward is one."""
    if trajectory.error is not None:
        return [("run", trajectory.error)]
    steps = (of_step(step.node, step.error) for step in trajectory.steps)
    found = [one for one in steps if one is not None]
    unjudged = judged and trajectory.reward is None and trajectory.stop_reason != StopReason.TOKEN_LIMIT.value
    return found or ([("judge", "it gave no verdict")] if unjudged else [])


@dataclass
class Failures:
    """The failed episodes of a run, or of a step of it."""

    episodes: int = 0
    """Episodes that ended."""
    failed: int = 0
    """Those of them in which something failed."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Kind of failure (`tool/reason`, `run`, `judge`) -> number of times."""
    why: dict[str, str] = field(default_factory=dict)
    """Kind of failure -> its first message."""

    def add(self, found: Iterable[tuple[str, str]]) -> None:
        """Count an episode with its failures."""
        found = list(found)
        self.episodes += 1
        self.failed += bool(found)
        for kind, message in found:
            self.kinds[kind] += 1
            self.why.setdefault(kind, message)

    @property
    def share(self) -> float:
        """Failed episodes as a share of all."""
        return self.failed / max(1, self.episodes)

    def __str__(self) -> str:
        most = self.kinds.most_common(TOLD)
        told = "; ".join(
            f"{kind} x{count}" + (f" ({self.why[kind]})" if self.why[kind] else "") for kind, count in most
        )
        return f"{self.failed} of {self.episodes} episodes failed: {told}"

    def shares(self) -> dict[str, float]:
        """Metrics of a step: `failures`, the share of failed episodes, and for each kind `failures/KIND`, its number an
        episode."""
        return {"failures": self.share} | {
            f"failures/{kind}": count / max(1, self.episodes) for kind, count in sorted(self.kinds.items())
        }

    def check(self, most: float, *, least: int = 1, then: str = "mend it and run again") -> None:
        """End the run if too many failed.

        Args:
            most: Largest share of failed episodes.
            least: Compare only once so many ended.
            then: What to do about it.

        Raises:
            TooManyFailed: the share is larger.
        """
        if self.episodes >= least and self.share > most:
            raise TooManyFailed(f"{self}; {then}, or allow more than max_failed_share={most:g}")
