"""The program: `lensgraph ask PICTURE "QUESTION"`, and `lensgraph serve`, `mcp`, `config`, `bench`, `load`.

Invariant: what the user typed is checked before anything heavy is imported; bad input costs one line on stderr and
exit code 2, never a traceback, and the line repeats nothing that looks like a key. Exit code 0: answered. 1: no answer. 2:
bad input or settings, or an output that cannot be written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from lensgraph.agent.errors import UserError
from lensgraph.tools.runtime import loops, output
from lensgraph.tools.safety.redact import shown, without_keys

ANSWERED, GAVE_UP, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[\w-]+)+=")
_FILE = re.compile(r"[/\\]|\.[A-Za-z][A-Za-z0-9]{1,4}$")
"""How the name of a file looks: a folder in it, or an ending."""
_PLAIN = re.compile(r"[A-Za-z_]\w*=")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Name the problem and where help is."""
        self.exit(BAD_INPUT, f"{self.prog}: {without_keys(message)}; see {self.prog} --help\n")


def ask(argv: Sequence[str]) -> int:
    """`lensgraph ask`."""
    parser = OneLineParser("lensgraph ask", description="Ask a question about a picture.")
    parser.add_argument(
        "words", nargs="+", metavar='PICTURE [PICTURE ...] "QUESTION" [key.key=value ...]',
        help="paths or http(s) addresses of pictures, the question in quotes, and single settings such as policy.model=NAME",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    _add_config(parser)
    given = parser.parse_intermixed_args(argv)
    pictures, question, settings = _sorted_out(given.words)
    if not question.strip():
        parser.error("no question; write it in quotes behind the picture")
    for number, picture in enumerate(pictures):
        if not picture.lower().startswith(("http://", "https://", "data:")):
            if number and not _exists(picture) and (wrong := _misread(picture, [*pictures[number + 1 :], question])):
                parser.error(wrong)
            _check_file(parser, picture)

    from lensgraph.graphs.program import (
        ask as command,  # imports start here, lightest first: settings and the pictures are checked next
    )

    return command.ask(pictures, question, given.config, settings, as_json=given.json)


def _sorted_out(words: list[str]) -> tuple[list[str], str, list[str]]:
    """Pictures, question and settings. Settings have a dotted key or stand behind the question; a question that looks like
    one is a question if there is no other."""
    first, *rest = words
    dotted = [word for word in rest if _DOTTED.match(word)]
    others = [word for word in rest if not _DOTTED.match(word)]
    while len(others) > 1 and _PLAIN.match(others[-1]):
        dotted.append(others.pop())
    if not others and dotted:
        others.append(dotted.pop(0))
    return ([first, *others[:-1]], others[-1], dotted) if others else ([first], "", dotted)


def _misread(word: str, behind: list[str]) -> str:
    """What went wrong if a word that was taken for a picture, and is no file, is none: the question, or a part of it. Empty:
    it is the name of a missing file."""
    if re.search(r"\s|\?$", word) and not _FILE.search(word):
        return f"{behind[0]!r} is not a setting; write it as key.key=value"
    if _FILE.search(word) or any(re.search(r"\s", other) for other in behind):
        return ""
    said = " ".join([word, *behind])
    return f'{said!r}: no files; put a question of several words in quotes, as in "What is this?"'


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def config(argv: Sequence[str]) -> int:
    """`lensgraph config`."""
    parser = OneLineParser("lensgraph config", description="Print the effective configuration with its meaning.")
    _add_settings(parser)
    given = parser.parse_intermixed_args(argv)

    from lensgraph.agent import config as configuration
    from lensgraph.graphs.program import providers

    found = configuration.load(given.config, given.settings)
    providers.check(found)
    print(configuration.render(found), end="")
    return ANSWERED


def bench(argv: Sequence[str]) -> int:
    """`lensgraph bench`."""
    parser = OneLineParser(
        "lensgraph bench", description="Measure the graph's own time per node, without policy and tools, or the start."
    )
    parser.add_argument("--start", action="store_true", help="whole processes instead, from start to answer")
    parser.add_argument("--runs", type=int, help="episodes to run (default 200), or processes (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    runs = given.runs if given.runs is not None else 3 if given.start else 200
    if runs < 2:
        parser.error(f"--runs {runs}: an interval needs at least 2 runs")
    if given.start:
        from lensgraph.graphs.bench import start_times

        return start_times.main(runs, as_json=given.json)

    from lensgraph.graphs.bench import overhead

    return overhead.main(runs, as_json=given.json)


def serve(argv: Sequence[str]) -> int:
    """`lensgraph serve`."""
    parser = OneLineParser(
        "lensgraph serve",
        description="Start vLLM for the policy that a configuration names, and wait until it is ready.",
    )
    _add_settings(parser)
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the command and start nothing")
    parser.add_argument("--gpus", type=int, metavar="N", help="GPUs to use (default: those that torch sees)")
    parser.add_argument(
        "--wait", type=float, default=900.0, metavar="SECONDS", help="give up on a start after this (900)"
    )
    parser.add_argument(
        "--vllm",
        action="append",
        default=[],
        metavar="ARG",
        help="further argument for vLLM, such as --vllm=--enforce-eager",
    )
    given = parser.parse_intermixed_args(argv)
    if given.gpus is not None and given.gpus < 0:
        parser.error(f"--gpus {given.gpus}: must be 0 or more")
    if given.wait <= 0:
        parser.error(f"--wait {given.wait:g}: must be more than 0 seconds")

    from lensgraph.graphs.program import serve as serving

    return serving.main(given.config, given.settings, gpus=given.gpus, wait=given.wait, further=given.vllm,
                        only_print=given.only_print)  # fmt: skip


def load(argv: Sequence[str]) -> int:
    """`lensgraph load`."""
    parser = OneLineParser(
        "lensgraph load",
        description="Ask many questions at once of a scripted policy server and tools that often fail.",
    )
    parser.add_argument("--questions", type=int, default=200, help="questions at once (default 200)")
    parser.add_argument("--rounds", type=int, default=6, help="times over, to see whether memory grows (default 6)")
    parser.add_argument("--errors", type=float, default=0.05, help="share of requests answered 5xx (default 0.05)")
    parser.add_argument("--timeouts", type=float, default=0.05, help="share of requests never answered (default 0.05)")
    parser.add_argument("--garbage", type=float, default=0.01, help="share of answers that are garbage (default 0.01)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds a request may take (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    for name, least in (("questions", 1), ("rounds", 2)):
        if (value := getattr(given, name)) < least:
            parser.error(f"--{name} {value}: must be {least} or more")
    shares = (given.errors, given.timeouts, given.garbage)
    if min(shares) < 0 or sum(shares) > 1:
        parser.error(
            f"--errors {shares[0]:g} --timeouts {shares[1]:g} --garbage {shares[2]:g}: shares, together at most 1"
        )
    if given.timeout <= 0:
        parser.error(f"--timeout {given.timeout:g}: must be more than 0 seconds")

    from lensgraph.graphs.bench import load as loading
    from lensgraph.graphs.bench.load_server import Faults

    faults = Faults(errors=given.errors, timeouts=given.timeouts, garbage=given.garbage)
    return loading.main(given.questions, given.rounds, faults, timeout=given.timeout, as_json=given.json)


def mcp(argv: Sequence[str]) -> int:
    """`lensgraph mcp`."""
    parser = OneLineParser(
        "lensgraph mcp", description="Answer questions about pictures as a server of the Model Context Protocol."
    )
    _add_settings(parser)
    parser.add_argument("--http", type=int, metavar="PORT", help="listen at http://127.0.0.1:PORT/mcp, not on stdio")
    parser.add_argument(
        "--files", metavar="FOLDER", help="clients may name pictures in this folder (default: no paths)"
    )
    parser.add_argument(
        "--threads",
        metavar="WHERE",
        help="keep conversations for follow-up questions: memory, sqlite:///FILE or postgresql://...",
    )
    given = parser.parse_intermixed_args(argv)
    if given.files is not None and not Path(given.files).expanduser().is_dir():
        parser.error(f"--files {given.files}: no such folder; make it or correct the path")
    if given.http is not None and not 0 < given.http < 65536:
        parser.error(f"--http {given.http}: no port; give 1 to 65535")

    from lensgraph.graphs.program import ask as command

    return command.mcp(given.config, given.settings, port=given.http, files=given.files, threads=given.threads)


def siblings(argv: Sequence[str]) -> int:
    """`lensgraph siblings`."""
    parser = OneLineParser(
        "lensgraph siblings",
        description="Show that many trajectories with few distinct queries make few calls, and their replay none.",
    )
    parser.add_argument("--trajectories", type=int, default=64, help="trajectories at once (default 64)")
    parser.add_argument("--queries", type=int, default=20, help="distinct queries among them (default 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(argv)
    if not 1 <= given.queries <= given.trajectories:
        parser.error(f"--queries {given.queries}: must be from 1 to the number of trajectories, {given.trajectories}")

    from lensgraph.graphs.bench import siblings as measuring

    figures = measuring.measure(given.trajectories, given.queries)
    print(json.dumps(figures) if given.json else measuring.report(figures))
    return 0 if measuring.kept(figures) else 1


def _add_settings(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.add_argument(
        "settings", nargs="*", metavar="key.key=value", help="single settings, such as policy.model=NAME"
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML settings (`lensgraph config` shows all), or a ready one by name: mmsearch_r1, local, ...",
    )


def _check_file(parser: argparse.ArgumentParser, name: str) -> None:
    """What can be said about a picture without reading it."""
    try:
        if not name.strip():
            parser.error(f"{name!r}: no name of a picture; give the path of one")
        path = Path(name).expanduser()
        if path.is_dir():
            parser.error(f"{name}: a folder; give the path of one picture")
        if not path.exists():
            parser.error(f"{name}: no such file; check the path")
        if not path.is_file():
            parser.error(f"{name}: a pipe or a device, not a file; save the picture and give its path")
        if path.stat().st_size == 0:
            parser.error(f"{name}: zero bytes; give a picture file")
    except (OSError, RuntimeError, ValueError) as error:  # too long, unknown ~user, or a NUL in it
        parser.error(f"{name[:80]!r}: not a usable path ({error}); check the path")


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "ask": ask, "serve": serve, "config": config, "bench": bench, "load": load, "siblings": siblings,
    "mcp": mcp,
}  # fmt: skip
HELP = """usage: lensgraph ask PICTURE [PICTURE ...] "QUESTION" [--json] [--config FILE] [key.key=value ...]
       lensgraph serve --config FILE [--print] [--gpus N] [key.key=value ...]
       lensgraph mcp [--http PORT] [--files FOLDER] [--threads WHERE] [--config FILE] [key.key=value ...]
       lensgraph config [--config FILE] [key.key=value ...]
       lensgraph bench [--start] [--runs N] [--json]
       lensgraph load [--questions N] [--rounds N] [--json]
       lensgraph siblings [--trajectories N] [--queries N] [--json]

Ask a question about a picture. `lensgraph COMMAND --help` says more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the return value is the exit code."""
    given = sys.argv[1:] if argv is None else argv
    code = output.guarded("lensgraph", lambda: _run(given))
    return loops.leave(code) if argv is None else code  # with arguments it is called by another program


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return ANSWERED if argv else BAD_INPUT
    if argv[0] not in COMMANDS:
        print(f"lensgraph: unknown command {shown((), argv[0])}; valid: {', '.join(COMMANDS)}", file=sys.stderr)
        return BAD_INPUT
    try:
        return COMMANDS[argv[0]](argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as error:
        print(f"lensgraph {argv[0]}: {without_keys(str(error))}", file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
