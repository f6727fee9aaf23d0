"""`lensgraph serve`: the command, the reasons not to start, and a life with signals, on a stand-in for vLLM.

The flags were read in vLLM's documentation of `vllm serve` and its engine arguments.
"""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lensgraph.agent import config
from lensgraph.agent.config import ConfigError
from lensgraph.agent.limits import CONTEXT_STEP
from lensgraph.agent.pocket import checkpoint
from lensgraph.agent.policy.light.gguf_export import export
from lensgraph.graphs.program.serving import other_engines, run_server, vllm_server

STAND_IN = """#!{python}
import http.server, json, os, signal, sys, time
print("stand-in", json.dumps(sys.argv[1:]), flush=True)
print("key", os.environ.get("VLLM_API_KEY"), flush=True)
if "--die" in sys.argv:
    sys.exit(7)
if "--crash" in sys.argv:
    os.kill(os.getpid(), signal.SIGILL)
started = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = self.path == "/health" and time.monotonic() - started > 0.5
        self.send_response(200 if ready else 503)
        self.end_headers()
    def log_message(self, *args):
        pass
def stop(number, frame):
    print("signal", number, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
port = int(sys.argv[sys.argv.index("--port") + 1])
if "--never" in sys.argv:
    time.sleep(60)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program called `vllm`, first on the path."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def flags(line: list[str]) -> dict[str, Any]:
    found = dict(zip(line[3::2], line[4::2], strict=True))
    return {name: json.loads(value) if value.startswith("{") else value for name, value in found.items()}


def test_the_command_fits_the_checkpoint_and_the_protocol() -> None:
    line = vllm_server.command(config.load_config("mmsearch_r1", environ={}), gpus=8)
    assert line[1:3] == ["serve", "lmms-lab/MMSearch-R1-7B"]
    found = flags(line)
    # 4096 of the first prompt with one picture, seven more in the question and five thumbnails of 1152 tokens and two marks
    # each, 8192 behind the first prompt, and a turn of 2048: 28,184, rounded up
    assert found["--max-model-len"] == "28672"
    # eight pictures in a question, five thumbnails of one image search
    assert found["--limit-mm-per-prompt"] == {"image": 13, "video": 0}
    assert found["--mm-processor-kwargs"] == {"min_pixels": 4 * 28 * 28, "max_pixels": 672 * 672 * 2}
    assert found["--served-model-name"] == "lmms-lab/MMSearch-R1-7B"
    assert (found["--dtype"], found["--port"], found["--host"]) == ("bfloat16", "8000", "127.0.0.1")
    assert found["--tensor-parallel-size"] == "4"
    assert found["--allowed-media-domains"].endswith(".invalid")
    assert "--allowed-local-media-path" not in found
    changed = config.load_config(
        "mmsearch_r1", ["policy.base_url=http://localhost:9001/v1", "limits.image_searches=2"], environ={}
    )
    found = flags(vllm_server.command(changed, gpus=1))
    assert (found["--port"], found["--tensor-parallel-size"]) == ("9001", "1")
    assert found["--limit-mm-per-prompt"]["image"] == 18


@pytest.mark.parametrize(
    ("name", "given", "pictures", "tokens"),
    [
        # one picture in the question, which is in the 4096; five thumbnails; 8192; 2048
        ("mmsearch_r1", ["limits.pictures=1"], 6, 4096 + 5 * 1154 + 8192 + 2048),
        # a fourth turn lets two image searches happen; more than three do not fit into it
        ("mmsearch_r1", ["limits.pictures=2", "limits.turns=4", "limits.image_searches=9"], 17, 4096 + 16 * 1154 + 10240),
        ("mmsearch_r1", ["limits.pictures=1", "limits.image_searches=0"], 1, 4096 + 8192 + 2048),
        # smaller views are fewer tokens; the paper's results bring no thumbnails, its one image search may bring one crop
        ("deepmmsearch_prompted", ["limits.pictures=1"], 2, 4096 + 1154 + 8192 + 2048),
        ("deepmmsearch_prompted", ["images.view_pixels=78400", "limits.tokens=4096"], 9, 4096 + 8 * 102 + 4096 + 2048),
        ("deepmmsearch_prompted", ["limits.image_searches=20", "policy.max_new_tokens=100"], 18,
         4096 + 17 * 1154 + 8192 + 100),
        # a crop without a search is a picture too: five of six turns may make one
        ("local_vllm", ["dialect.name=compact", "limits.pictures=1"], 6, 4096 + 5 * 1154 + 8192 + 2048),
        ("local_vllm", ["dialect.name=compact", "limits.pictures=1", "limits.tool_calls=2"], 3, 4096 + 2 * 1154 + 10240),
    ],
)  # fmt: skip
def test_the_context_has_room_for_all_pictures_that_the_limits_allow(
    name: str, given: list[str], pictures: int, tokens: int
) -> None:
    found = flags(vllm_server.command(config.load_config(name, given, environ={}), gpus=1))
    assert found["--limit-mm-per-prompt"] == {"image": pictures, "video": 0}
    length = int(found["--max-model-len"])
    assert length % CONTEXT_STEP == 0
    assert tokens <= length < tokens + CONTEXT_STEP


def test_a_model_that_calls_tools_is_served_with_a_parser_for_its_calls() -> None:
    settings = ["dialect.name=tools", "policy.kind=openai_compatible", "policy.model=Qwen/Qwen3-VL-8B-Instruct"]
    line = vllm_server.command(config.load_config(None, settings, environ={}), gpus=1)
    place = line.index("--enable-auto-tool-choice")
    assert line[place + 1 :] == ["--tool-call-parser", "hermes"]
    found = flags(line[:place])
    # eight in the question, five thumbnails of each of three image searches, one region for each of ten calls
    assert found["--limit-mm-per-prompt"] == {"image": 33, "video": 0}
    assert 0 <= int(found["--max-model-len"]) - (4096 + 32 * 1154 + 32_768 + 2048) < CONTEXT_STEP
    assert "--tool-call-parser" not in vllm_server.command(config.load_config("mmsearch_r1", environ={}), gpus=1)


def test_the_context_is_never_longer_than_the_model_was_made_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 16000, "num_attention_heads": 28}))
    settings = config.load_config("mmsearch_r1", [f"policy.model={tmp_path}"], environ={})
    assert flags(vllm_server.command(settings, gpus=1))["--max-model-len"] == "16000"


def test_a_turn_as_long_as_the_models_context_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    settings = config.load_config("mmsearch_r1", [f"policy.model={tmp_path}", "policy.max_new_tokens=5000"], environ={})
    with pytest.raises(ConfigError, match="max_new_tokens=5000 leaves no room in the 4096 tokens"):
        vllm_server.command(settings, gpus=1)


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ({"size": {"shortest_edge": 11760, "longest_edge": 23520}}, (11760, 23520)),  # the pocket policy's
        ({"min_pixels": 3136, "max_pixels": 12845056}, (3136, 672 * 672 * 2)),  # Qwen2.5-VL-7B's: the agent scales down
        ({"size": {"shortest_edge": 2_000_000, "longest_edge": 3_000_000}}, (2_000_000, 2_000_000)),
        ({}, (4 * 28 * 28, 672 * 672 * 2)),
    ],
)
def test_pictures_are_as_large_as_the_checkpoint_wants_them(
    tmp_path: Path, stated: dict[str, Any], wanted: tuple[int, int]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    settings = config.load_config("mmsearch_r1", [f"policy.model={tmp_path}"], environ={})
    found = flags(vllm_server.command(settings, gpus=1))["--mm-processor-kwargs"]
    assert (found["min_pixels"], found["max_pixels"]) == wanted


def test_the_embedded_policy_is_served_from_its_folder_under_its_name() -> None:
    settings = config.load_config(None, ["policy.kind=openai_compatible", "policy.model=pocket"], environ={})
    line = vllm_server.command(settings, gpus=1)
    assert line[2] == checkpoint("pocket")
    found = flags(line)
    assert (found["--served-model-name"], found["--max-model-len"]) == ("pocket", "4096")
    assert found["--mm-processor-kwargs"] == {"min_pixels": 11760, "max_pixels": 23520}


def test_llama_cpp_is_told_the_sizes_of_the_checkpoint_that_was_exported(tmp_path: Path) -> None:
    export(Path(checkpoint("pocket")), tmp_path)
    given = ["policy.kind=openai_compatible", f"policy.model={tmp_path}", "policy.base_url=http://127.0.0.1:9002/v1"]
    line = other_engines.llama_cpp(config.load_config(None, given, environ={}), ["--threads", "1"])
    found = dict(zip(line[1::2], line[2::2], strict=False))
    assert (found["--model"], found["--mmproj"]) == (str(tmp_path / "model.gguf"), str(tmp_path / "mmproj.gguf"))
    assert (found["--alias"], found["--port"]) == (str(tmp_path), "9002")
    assert (found["--image-min-tokens"], found["--image-max-tokens"]) == ("15", "30")
    assert int(found["--ctx-size"]) == 4096 * int(found["--parallel"])
    assert line[-3:] == ["--jinja", "--threads", "1"]
    with pytest.raises(ConfigError, match="no model.gguf in that folder; make it with `lensgraph export gguf"):
        other_engines.llama_cpp(config.load_config(None, [*given, f"policy.model={checkpoint('pocket')}"], environ={}))


def test_transformers_serves_the_checkpoints_folder() -> None:
    given = ["policy.kind=openai_compatible", "policy.model=pocket", "policy.base_url=http://127.0.0.1:9003/v1"]
    line = other_engines.transformers(config.load_config(None, given, environ={}))
    assert line[1:] == ["serve", "--host", "127.0.0.1", "--port", "9003", checkpoint("pocket")]
    assert other_engines.obstacles("/nowhere/transformers")[0].startswith("transformers is not installed: pip install")


@pytest.mark.parametrize(
    ("gpus", "heads", "size"), [(1, 28, 1), (2, 28, 2), (8, 28, 4), (6, 16, 4), (8, 64, 8), (3, 7, 1)]
)
def test_gpus_that_share_a_model_divide_its_heads(tmp_path: Path, gpus: int, heads: int, size: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"num_attention_heads": heads}}))
    assert vllm_server.tensor_parallel(str(tmp_path), gpus) == size


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["policy.model=pocket"],
            "needs no server; give a configuration with openai_compatible, such as --config mmsearch",
        ),
        (["policy.kind=openai_compatible", "policy.base_url=http://gpu7/v1"], "is on another machine; run"),
    ],
)
def test_what_cannot_be_served_is_said(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vllm_server.command(config.load_config(None, given, environ={}), gpus=1)


def program(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lensgraph", "serve", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def test_without_vllm_and_gpu_it_says_what_to_do_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    out, err = program("--config", "mmsearch_r1", CUDA_VISIBLE_DEVICES="").communicate(timeout=170)
    assert out.startswith("vllm serve lmms-lab/MMSearch-R1-7B --served-model-name")
    assert 'vLLM is not installed: pip install ".[serve]"' in err
    assert "no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES" in err
    assert "Traceback" not in err


def test_the_command_can_be_printed_alone(vllm: Path) -> None:
    one = program("--config", "mmsearch_r1", "--print", "--gpus", "2", "--vllm=--enforce-eager")
    out, err = one.communicate(timeout=170)
    assert (one.returncode, err) == (0, "")
    line = shlex.split(out)
    assert line[0] == str(vllm)
    assert line[-1] == "--enforce-eager"
    assert "stand-in" not in out


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_waits_for_health_and_hands_signals_on(vllm: Path, number: int) -> None:
    where = f"policy.base_url=http://127.0.0.1:{port()}/v1"
    one = program(
        "--config", "mmsearch_r1", where, "policy.api_key_env=THE_KEY", "--gpus", "1", THE_KEY="s3cret-key"
    )  # fmt: skip
    assert one.stdout is not None
    lines = []
    for line in one.stdout:
        lines.append(line)
        if line.startswith("ready after"):
            break
    one.send_signal(number)
    rest, err = one.communicate(timeout=60)
    assert one.returncode == 0, err
    assert f"signal {int(number)}" in rest
    assert "key s3cret-key\n" in lines
    assert "s3cret" not in lines[0]


def test_a_server_that_dies_or_never_gets_ready_is_a_failure(vllm: Path) -> None:
    where = f"policy.base_url=http://127.0.0.1:{port()}/v1"
    one = program("--config", "mmsearch_r1", where, "--gpus", "1", "--vllm=--die")
    _, err = one.communicate(timeout=170)
    assert one.returncode == 7
    assert "vllm ended with exit code 7; its last lines say why" in err
    # vLLM's build for CPUs with AVX-512, on one without
    one = program("--config", "mmsearch_r1", where, "--gpus", "1", "--pass=--crash")
    _, err = one.communicate(timeout=170)
    assert one.returncode == 128 + signal.SIGILL
    assert f"vllm ended with exit code {-signal.SIGILL}; its last lines say why" in err
    one = program("--config", "mmsearch_r1", where, "--gpus", "1", "--wait", "1", "--vllm=--never")
    _, err = one.communicate(timeout=170)
    assert one.returncode == run_server.FAILED
    assert "not ready after 1 s (--wait); stopped" in err
