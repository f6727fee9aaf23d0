"""`lensgraph bench`, `load` and `siblings`: read the command lines; the measurements are in `lensgraph.graphs.bench`."""

from __future__ import annotations

import argparse
import json

from lensgraph.graphs.program.command_line import WrongUsage


def bench(given: argparse.Namespace) -> int:
    """Measure the graph's own time per node, whole processes, or a long thread."""
    if given.thread is not None:
        if given.thread < 1:
            raise WrongUsage(f"--thread {given.thread}: must be 1 question or more")
        from lensgraph.graphs.bench import long_thread

        return long_thread.main(given.thread, as_json=given.json)
    runs = given.runs if given.runs is not None else 3 if given.start else 200
    if runs < 2:
        raise WrongUsage(f"--runs {runs}: an interval needs at least 2 runs")
    if given.start:
        from lensgraph.graphs.bench import start_times

        return start_times.main(runs, as_json=given.json)

    from lensgraph.graphs.bench import overhead

    return overhead.main(runs, as_json=given.json)


def load(given: argparse.Namespace) -> int:
    """Ask many questions at once of servers that often fail."""
    for name, least in (("questions", 1), ("rounds", 2)):
        if (value := getattr(given, name)) < least:
            raise WrongUsage(f"--{name} {value}: must be {least} or more")
    shares = (given.errors, given.timeouts, given.garbage)
    if min(shares) < 0 or sum(shares) > 1:
        raise WrongUsage(
            f"--errors {shares[0]:g} --timeouts {shares[1]:g} --garbage {shares[2]:g}: shares, together at most 1"
        )
    if given.timeout <= 0:
        raise WrongUsage(f"--timeout {given.timeout:g}: must be more than 0 seconds")

    from lensgraph.graphs.bench import load_bench as loading
    from lensgraph.graphs.bench.load_server import Faults

    faults = Faults(errors=given.errors, timeouts=given.timeouts, garbage=given.garbage)
    return loading.main(given.questions, given.rounds, faults, timeout=given.timeout, as_json=given.json)


def siblings(given: argparse.Namespace) -> int:
    """Count the calls of trajectories with equal queries."""
    if not 1 <= given.queries <= given.trajectories:
        raise WrongUsage(
            f"--queries {given.queries}: must be from 1 to the number of trajectories, {given.trajectories}"
        )

    from lensgraph.graphs.bench import siblings as measuring

    figures = measuring.measure(given.trajectories, given.queries)
    print(json.dumps(figures) if given.json else measuring.report(figures))
    return 0 if measuring.kept(figures) else 1
