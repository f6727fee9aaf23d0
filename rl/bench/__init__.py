"""Measurements of the training stack. Nothing in the product imports them; skip this folder when reading.

`throughput` times ways to make rollouts (`rollout_ways`): the graph, step-synchronous batching (`lockstep`) and TRL's
own tool loop (`trl_loop`), with tools as they are or slowed down (`slow_tools`). `model_size` times a rollout and an
update of a published model size with random weights.
"""
