"""The table of commands: `lensgraph --help` and each command's `--help` are printed from it.

A new command is one row here and one function, which takes the parsed options and returns the exit code.

Invariant: a command's own module is light: it checks what the user typed and imports what it needs after that.
"""

from __future__ import annotations

from pathlib import Path

from lensgraph.graphs.program.command_line import Command, option

_JSON = option("--json", action="store_true", help="print one JSON object on stdout and nothing else")
_CONFIG = option(
    "--config", metavar="FILE",
    help="YAML settings (`lensgraph config` shows all), or a ready one by name: mmsearch_r1, local, ...",
)  # fmt: skip
_SET = option(
    "--set", action="append", default=[], metavar="key.key=value",
    help="a single setting, such as policy.model=NAME; may be repeated",
)  # fmt: skip
_WORDS = option("words", nargs="*", metavar="key.key=value", help="single settings, as for --set")
_SETTINGS = (_WORDS, _CONFIG, _SET)
_CACHE = option("--folder", help="the cache's folder (tools.cache.folder); default: the one below LENSGRAPH_HOME")

_PROGRAM = "lensgraph.graphs.program"

COMMANDS: dict[str, Command] = {
    "ask": Command(
        f"{_PROGRAM}.ask:run", "Ask a question about a picture.",
        (
            option(
                "words", nargs="+", metavar="WORD",
                help="paths or http(s) addresses of pictures, the question in quotes, and single settings, as for --set",
            ),
            option(
                "--approve", action="append", default=[], metavar="CALL",
                help="stop before each text_search, image_search or crop and ask here; may be repeated",
            ),
            _JSON, _CONFIG, _SET,
            option("--show-raw", action="store_true", help="print what a turn said that could not be read"),
        ),
        usage='PICTURE [PICTURE ...] "QUESTION" [--json] [--approve CALL] [--config FILE] [key.key=value ...]',
    ),
    "config": Command(f"{_PROGRAM}.config:run", "Print the effective configuration with its meaning.", _SETTINGS),
    "serve": Command(
        f"{_PROGRAM}.serve:run", "Start a model server for the policy that a configuration names, and wait until it is ready.",
        (
            *_SETTINGS,
            option(
                "--engine", choices=["vllm", "llama_cpp", "transformers"], default="vllm",
                help="the server: vLLM (default), llama.cpp's (see export gguf), or `transformers serve`",
            ),
            option("--print", action="store_true", dest="only_print", help="print the command and start nothing"),
            option("--gpus", type=int, metavar="N", help="GPUs to use (default: those that torch sees)"),
            option("--wait", type=float, default=900.0, metavar="SECONDS", help="give up on a start after this (900)"),
            option(
                "--vllm", "--pass", dest="vllm", action="append", default=[], metavar="ARG",
                help="further argument for the server, such as --pass=--enforce-eager",
            ),
        ),
    ),
    "export gguf": Command(
        f"{_PROGRAM}.gguf_command:gguf", "Write a Qwen2.5-VL checkpoint as the two files that llama.cpp's server takes.",
        (
            option("model", nargs="?", default="pocket", help="folder of the checkpoint (default: the embedded policy)"),
            option("--out", type=Path, required=True, metavar="FOLDER", help="where model.gguf and mmproj.gguf go"),
            option("--numbers", choices=["bf16", "f16", "f32"], default="bf16", help="numbers of the weights (bf16)"),
        ),
    ),
    "mcp": Command(
        f"{_PROGRAM}.mcp:run", "Answer questions about pictures as a server of the Model Context Protocol.",
        (
            *_SETTINGS,
            option("--http", type=int, metavar="PORT", help="listen at http://127.0.0.1:PORT/mcp, not on stdio"),
            option(
                "--token-env", metavar="NAME",
                help="over HTTP, let in only whoever sends the bearer token that this environment variable holds",
            ),
            option(
                "--pictures", "--files", metavar="FOLDER", help="clients may name pictures in this folder (default: no paths)"
            ),
            option(
                "--threads", metavar="WHERE",
                help="keep conversations for follow-up questions: memory, sqlite:///FILE or postgresql://...",
            ),
        ),
    ),
    "index": Command(
        f"{_PROGRAM}.index_commands:index", "Index a folder of pictures and documents, or bring its index up to date.",
        (
            option("folder", type=Path, help="folder with pictures and documents (txt, md, html, pdf)"),
            option("--out", type=Path, help="where the index goes (default: the cache folder)"),
            option("--embedder", help="embedded (default), transformers:NAME, or package.module:Class"),
        ),
    ),
    "search": Command(
        f"{_PROGRAM}.index_commands:search", "Search an index by words or by picture.",
        (
            option("index", type=Path, help="folder that `lensgraph index` wrote"),
            option("--text", help="words to look for"),
            option("--image", help="picture to look for: a path or an address"),
            option("-k", type=int, default=5, help="number of results (default 5)"),
            _JSON,
        ),
    ),
    "cache stats": Command(f"{_PROGRAM}.cache_commands:stats", "Print the kept answers of the tools, by tool.", (_CACHE, _JSON)),
    "cache clear": Command(f"{_PROGRAM}.cache_commands:clear", "Delete the kept answers of the tools.", (_CACHE, _JSON)),
    "world card": Command(
        f"{_PROGRAM}.index_commands:world_card", "Print the embedded world's counts, splits, licences and retrieval figures.",
        (
            option("--all", action="store_true", help="ask every gold query, not a sample"),
            option("--out", type=Path, help="write the card there as well"),
        ),
    ),
    "world index": Command(f"{_PROGRAM}.index_commands:world_index", "Build the embedded world's index and print its folder."),
    "world verify": Command(
        f"{_PROGRAM}.index_commands:world_verify", "Find which lay wordings mislead the engine, and store them with the data."
    ),
    "bench": Command(
        f"{_PROGRAM}.benches:bench", "Measure the graph's own time: a node, a whole process, or a long thread.",
        (
            option("--start", action="store_true", help="whole processes instead, from start to answer"),
            option("--thread", type=int, metavar="QUESTIONS", help="one thread in SQLite: seconds and bytes a question"),
            option("--runs", type=int, help="episodes to run (default 200), or processes (default 3)"),
            _JSON,
        ),
    ),
    "load": Command(
        f"{_PROGRAM}.benches:load", "Ask many questions at once of a scripted policy server and tools that often fail.",
        (
            option("--questions", type=int, default=200, help="questions at once (default 200)"),
            option("--rounds", type=int, default=6, help="repetitions, to see whether memory grows (default 6)"),
            option("--errors", type=float, default=0.05, help="share of requests answered 5xx (default 0.05)"),
            option("--timeouts", type=float, default=0.05, help="share of requests never answered (default 0.05)"),
            option("--garbage", type=float, default=0.01, help="share of answers that are garbage (default 0.01)"),
            option("--timeout", type=float, default=10.0, help="seconds a request may take (default 10)"),
            _JSON,
        ),
    ),
    "siblings": Command(
        f"{_PROGRAM}.benches:siblings", "Show that trajectories with equal queries share calls, and a replay makes none.",
        (
            option("--trajectories", type=int, default=64, help="trajectories at once (default 64)"),
            option("--queries", type=int, default=20, help="distinct queries among them (default 20)"),
            _JSON,
        ),
    ),
}  # fmt: skip
"""Name -> command, in the order of `lensgraph --help`. A name of two words belongs to a group: `lensgraph cache stats`."""
