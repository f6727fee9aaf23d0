"""Measure a policy: run a graph over tasks, and report metrics with intervals.

`run_tasks` asks every question and writes a `record`; `metrics` is the table of figures, where a new one is added; `report`
and `comparison` print them, and `evaluate` and `compare` are the commands. `provenance` keeps records of different
makings apart. `question_mix` weights tasks, `balance` labels them, `ceiling` and `reading_only` bound what a policy can
reach, and `trajectories` reads and exports recorded episodes.
"""
