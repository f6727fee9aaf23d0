"""Rollouts: the graph runs on a task, and a trajectory records it.

`episode` runs the graph, `recording` turns its final state into the parts of a `trajectory`, `length_budget`
cuts an episode that does not fit into a training row, `deciders` names the nodes that can be trained,
`wait_clock` measures waiting, and `own_loop` runs coroutines from synchronous code.
"""
