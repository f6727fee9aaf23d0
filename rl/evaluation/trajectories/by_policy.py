"""Choose the trajectories of a policy: one folder may hold those of several."""

from __future__ import annotations

from collections.abc import Iterator

from lensgraph.agent.errors import UserError
from lensgraph.rl.rollout.trajectory import Trajectory, TrajectoryStore


def of_policy(store: TrajectoryStore, policy: str | None) -> Iterator[Trajectory]:
    """Trajectories of the policies whose name begins with `policy`; None: all trajectories.

    Raises:
        ValueError: the store has no such policy.
    """
    names: set[str] = set()
    found = False
    for trajectory in store:
        names.add(trajectory.policy)
        if policy is None or trajectory.policy.startswith(policy):
            found = True
            yield trajectory
    if policy is not None and not found:
        raise UserError(f"no policy {policy!r} in {store.folder}; there are {', '.join(sorted(names))}")
