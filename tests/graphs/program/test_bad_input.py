"""Odd input of people. It works where it can work; the rest is one line that names the value and the fix, exit code 2.

Through the command line where a person meets it, through the graph where a program does.
"""

import base64
import importlib.metadata
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import types
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from PIL import Image

from lensgraph.agent import testing
from lensgraph.agent.errors import BadInput
from lensgraph.agent.policy.scripted import ScriptedPolicy
from lensgraph.agent.state import EVERYTHING
from lensgraph.graphs import search_agent
from lensgraph.graphs.program import ask
from lensgraph.graphs.program.main import main
from lensgraph.tools.local.embedder.interface import ImageEmbedder
from lensgraph.tools.local.index.index_folder import index_folder


class OneNumber(ImageEmbedder):
    """The shortest vectors there are."""

    dimension = 1
    fingerprint = "one number"

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        return np.ones((len(pictures), 1), np.float32)


PLAYED = ChatResult(generations=[ChatGeneration(message=AIMessage("<answer>1987</answer>"))])


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 32), "teal").save(path)
    return path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must be refused; returns the one line."""
    try:
        code: object = main(["ask", *argv])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    lines = said.err.strip().splitlines()
    assert len(lines) == 1, said.err
    assert "Traceback" not in said.err
    return lines[0]


def answered(capsys: pytest.CaptureFixture[str], picture: Path, settings: Path) -> dict[str, Any]:
    """Run a command that must work; returns the JSON object."""
    code = main(["ask", str(picture), "What is this?", "--json", "--config", str(settings)])
    said = capsys.readouterr()
    assert code == 0
    assert [line for line in said.err.splitlines() if "pixels are too few" not in line] == []
    return json.loads(said.out)


# --- pictures that cannot be used


def test_a_missing_file(capsys: Any) -> None:
    assert refused(capsys, "/nowhere/kenya.png", "?") == (
        "lensgraph ask: /nowhere/kenya.png: no such file; check the path; see lensgraph ask --help"
    )


def test_a_folder(capsys: Any, tmp_path: Path) -> None:
    assert f"{tmp_path}: a folder; give the path of one picture" in refused(capsys, str(tmp_path), "?")


def test_zero_bytes(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "empty.png: zero bytes" in refused(capsys, str(tmp_path / "empty.png"), "?")


def test_a_text_file_named_png(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture at all")
    line = refused(capsys, str(tmp_path / "notes.png"), "?")
    assert "notes.png: not a picture" in line
    assert "give PNG, JPEG" in line


def test_a_truncated_jpeg(capsys: Any, tmp_path: Path, encoded: Any) -> None:
    data = encoded(Image.effect_noise((200, 200), 90).convert("RGB"), "JPEG")
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    assert "half.jpg: truncated or damaged JPEG" in refused(capsys, str(tmp_path / "half.jpg"), "?")


def test_a_pixel_bomb_is_refused_before_it_is_decoded(capsys: Any, tmp_path: Path, bomb: bytes) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb)
    line = refused(capsys, str(tmp_path / "bomb.png"), "?")
    assert "bomb.png:" in line
    assert "give a smaller picture" in line


def test_a_picture_over_the_configured_cap(capsys: Any, png: Path) -> None:
    assert "40x32 pixels is over the cap of 100" in refused(capsys, str(png), "?", "images.max_pixels=100")


def test_a_missing_second_picture_is_named(capsys: Any, png: Path) -> None:
    for missing in ("missing.png", "my holiday.jpeg", "pictures/flags", "flags"):
        line = refused(capsys, str(png), missing, "What is left?")
        assert line.startswith(f"lensgraph ask: {missing}: no such file; check the path")


# The grammar is PICTURE... "QUESTION" SETTING...: where a word behind the first picture is no file, the one line names that
# word and all three reasons that it can have. It was once guessed which of them was meant.
MISPLACED = (
    "no such file; check the path, put the whole question in quotes, and write settings behind it as key.key=value"
)


@pytest.mark.parametrize(
    "words", [["What", "is", "this"], ["What", "is", "this?"], ["What", "this?", "limits.turns=2"]]
)
def test_a_question_without_quotes_is_told_so(capsys: Any, png: Path, words: list[str]) -> None:
    assert f"lensgraph ask: What: {MISPLACED}" in refused(capsys, str(png), *words)


@pytest.mark.parametrize("question", ["What is this?", "What?", "what is in a.b"])
def test_what_follows_the_question_must_be_a_setting(capsys: Any, png: Path, question: str) -> None:
    assert f"lensgraph ask: {question}: {MISPLACED}" in refused(capsys, str(png), question, "turns")


def test_a_setting_in_front_of_the_question_is_told_where_to_stand(capsys: Any, png: Path) -> None:
    assert f"limits.turns=2: {MISPLACED}" in refused(capsys, str(png), "limits.turns=2", "What is this?")


def test_a_sliver(capsys: Any, tmp_path: Path) -> None:
    """A model's processor would fail on it in the middle of the run."""
    Image.new("RGB", (5000, 2)).save(tmp_path / "line.png")
    assert refused(capsys, str(tmp_path / "line.png"), "?") == (
        "lensgraph ask: line.png: 5000x2 pixels is a sliver, its sides may differ 200-fold; give a part that is less long."
    )


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b.png", "~nobody-by-this-name/x.png"])
def test_an_impossible_path(capsys: Any, path: str) -> None:
    assert refused(capsys, path, "?").startswith("lensgraph ask: ")


def test_an_address_inside_the_network(capsys: Any, settings: Path) -> None:
    line = refused(capsys, "http://127.0.0.1/x.png", "?", "--config", str(settings))
    assert "not a public address" in line


@pytest.mark.parametrize("body", ["@@@", "ä", "AAAAA"])
def test_a_data_uri_with_broken_base64(capsys: Any, body: str) -> None:
    assert "broken base64" in refused(capsys, f"data:image/png;base64,{body}", "?")


def test_what_is_no_file(capsys: Any, tmp_path: Path) -> None:
    """A pipe has no size, which says nothing of what comes out of it."""
    os.mkfifo(tmp_path / "pipe.png")
    for name in (str(tmp_path / "pipe.png"), "/dev/zero"):
        assert f"{name}: a pipe or a device, not a file; save the picture" in refused(capsys, name, "?")
    assert "'': no name of a picture" in refused(capsys, "", "?")


@pytest.mark.parametrize("address", ["http://", "https:///flag.png", "http://:80/flag.png"])
def test_an_address_without_a_server(capsys: Any, address: str) -> None:
    assert f"{address}: names no server; give an address such as https://" in refused(capsys, address, "?")


def test_a_picture_with_a_text_that_unpacks_to_too_much(capsys: Any, tmp_path: Path, encoded: Any) -> None:
    data = encoded(Image.new("RGB", (40, 30)), "PNG")
    text = b"zTXtComment\0\0" + zlib.compress(b"a" * 60_000_000, 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    (tmp_path / "text.png").write_bytes(data[:33] + chunk + data[33:])
    line = refused(capsys, str(tmp_path / "text.png"), "?")
    assert "text.png: damaged, or more text beside the pixels than is read" in line


# --- questions that cannot be used


@pytest.mark.parametrize("question", [[], [""], ["   "]])
def test_no_question(capsys: Any, png: Path, question: list[str]) -> None:
    assert "no question" in refused(capsys, str(png), *question)


def test_a_question_alone_is_asked_and_the_pocket_policy_says_that_it_needs_a_picture(capsys: Any) -> None:
    assert main(["ask", "What is the capital of Kenya?", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["stop_reason"] == "no_picture"
    assert "answers only about pictures, and none came with the question" in said.err


def test_a_picture_behind_the_question_is_told_so(capsys: Any, png: Path) -> None:
    assert "stands in front of the question; exchange the two" in refused(capsys, "What is this?", str(png))


def test_a_question_of_100_000_characters(capsys: Any, png: Path) -> None:
    line = refused(capsys, str(png), "why " * 25_000)
    assert "100,000 characters, the limit is 8,000 (limits.question_chars)" in line
    assert len(line) < 300


# --- settings that cannot be used


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("policy.modle=x", "policy.modle: unknown key; did you mean 'model'? Valid keys of policy: model, kind,"),
        ("polcy.model=x", "polcy: unknown key; did you mean 'policy'? Valid keys: graph, policy,"),
        ("tools.text_search=bing", "unknown provider 'bing'; valid names: local,"),
        (
            "tools.text_search.kk=3",
            "tools.text_search: unknown key 'kk' for 'lensgraph.agent.testing:FixedText'; valid keys:",
        ),
        ("tools.image_search.use=no.such:Thing", "cannot be imported"),
        ("policy.kind=gpt", "policy.kind: unknown kind 'gpt'; valid: pocket, transformers, openai_compatible"),
        ("policy.kind=no.such:Policy", "cannot be imported"),
        ("policy.kind=lensgraph.agent.errors:UserError", "is no LangChain chat model"),
        ("dialect.name=esperanto", "dialect.name='esperanto': Input should be 'compact', 'deepmmsearch_r1'"),
        ("dialect.prompts=/nowhere.txt", "dialect.prompts: /nowhere.txt is no .yaml file"),
        ("limits.turns=many", "limits.turns='many': Input should be a valid integer"),
        ("limits.turns=0", "limits.turns=0: Input should be greater than or equal to 1"),
        ("limits.turns.x=1", "limits.turns={x: ...}: Input should be a valid integer"),
        ("graph=circle", "graph=circle: use one of direct, rag, search_agent, or package.module:attribute"),
        ("tools.text_search={use: local, index: /nowhere}", "/nowhere"),
        (
            "policy.model=/nowhere/at/all",
            "policy.model='/nowhere/at/all': no such folder; give the folder of a checkpoint",
        ),
        ("policy.kind=lensgraph.agent.config:Nope", "module 'lensgraph.agent.config' has no 'Nope'; correct the path"),
        (
            "policy.base_url=http://127.0.0.1:99999/v1",
            "policy.base_url='http://127.0.0.1:99999/v1': must be the address of a",
        ),
        ("policy.base_url=http://[::1/v1", "must be the address of a server, such as http://127.0.0.1:8000/v1"),
        (
            "policy.base_url=localhost:8000",
            "policy.base_url='localhost:8000': must be the address of a server, such as http:",
        ),
        (
            "images.folder=/dev/null/x",
            "images.folder='/dev/null/x': cannot be made (Not a directory); give a folder you may",
        ),
        (
            "images.folder=/dev/null",
            "images.folder='/dev/null': cannot be made (File exists); give a folder you may write to",
        ),
        ("limits=3", "limits=3: has settings below it; set one of them: limits.image_searches, limits.text_searches"),
        ("dialect.prompts=/nowhere.yaml", "cannot be read as YAML"),
        ("tools.locate=nothing", "tools.locate.use: unknown provider 'nothing'; valid names: local, grounding_dino,"),
        (
            "tools.locate.foo=3",
            "tools.locate: unknown key 'foo' for 'lensgraph.agent.testing:FixedLocator'; valid keys:",
        ),
        ("tools.locate=lensgraph.agent.errors:UserError", "is no LangChain tool; subclass Locator or BaseTool"),
        (
            "tools.text_search={use: wikipedia, read: {reader: 3}}",
            "tools.text_search.read.reader=3: must be a name, or",
        ),
        ("policy.model=", "policy.model='': empty; give pocket, the folder of a checkpoint, or a hub name"),
        (
            "policy.model=no-author/no-model",
            "'no-author/no-model': not among the downloaded models, and the hub cannot be",
        ),
        ("policy={model: pocket, options: {stop: 3}}", "policy.options.stop=3: Input should be a valid list"),
        ("images.local_files=5", "images.local_files=5: must be true, false or the path of a folder"),
        ("limits.turns=true", "limits.turns=True: must be a number"),
        ("limits.seconds=.inf", "limits.seconds=inf: Input should be a finite number"),
        ("policy.temperature=.inf", "policy.temperature=inf: Input should be a finite number"),
    ],
)
def test_a_setting_that_is_wrong(capsys: Any, png: Path, settings: Path, setting: str, message: str) -> None:
    fixed = [] if setting.startswith(("policy.model=", "policy.kind", "policy={")) else ["--config", str(settings)]
    assert message in refused(capsys, str(png), "?", setting, *fixed)


def test_a_setting_behind_set_may_stand_anywhere_and_must_be_one(capsys: Any, png: Path, settings: Path) -> None:
    for argv in (["--set", "limits.turns=0", str(png), "?"], [str(png), "--set", "limits.turns=0", "?"]):
        assert "limits.turns=0: Input should be greater" in refused(capsys, *argv, "--config", str(settings))
    assert "'policy' is not a setting; write it as key.key=value" in refused(capsys, str(png), "?", "--set", "policy")


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        ("nonsense", "Unknown embedder 'nonsense'; valid: 'embedded', 'transformers:NAME', or an import path"),
        ("os.path:join", "Embedder 'os.path:join' cannot be loaded: join() missing 1 required positional argument"),
        ("no.such:Thing", "Embedder 'no.such:Thing' cannot be loaded: No module named 'no'"),
        ("package.embedders:OneNumber", "was built with embedder 'embedded' of dimension"),
    ],
)
def test_an_embedder_that_cannot_be_used(
    capsys: Any,
    png: Path,
    settings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedder: str,
    message: str,
) -> None:
    """Before the first turn, and not as a failed search that the policy makes up an answer for."""
    (tmp_path / "pictures").mkdir()
    shutil.copy(png, tmp_path / "pictures" / "a.png")
    index_folder(tmp_path / "pictures", tmp_path / "index")
    monkeypatch.setitem(sys.modules, "package.embedders", types.SimpleNamespace(OneNumber=OneNumber))  # type: ignore[arg-type]
    spec = f"tools.image_search={{use: local, index: {tmp_path / 'index'}, embedder: '{embedder}'}}"
    assert message in refused(capsys, str(png), "?", "--config", str(settings), spec)


@pytest.mark.parametrize("graph", ["direct", "rag"])
def test_a_provider_that_there_is_none_of_is_refused_also_where_the_graph_asks_nobody(
    capsys: Any, png: Path, settings: Path, graph: str
) -> None:
    for setting in ("tools.locate=nothing", "tools.text_search={use: wikipedia, read: {reader: foo}}"):
        line = refused(capsys, str(png), "?", "--config", str(settings), f"graph={graph}", setting)
        assert "unknown provider" in line


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tools.text_search=bing", "unknown provider 'bing'"),
        ("tools.image_search=bing", "unknown provider 'bing'"),
        ("tools.locate=nothing", "unknown provider 'nothing'"),
        ("tools.text_search.kk=3", "unknown key 'kk' for 'local'"),
        ("policy.kind=gpt", "unknown kind 'gpt'"),
        ("policy.kind=lensgraph.agent.errors:UserError", "is no LangChain chat model"),
    ],
)
def test_the_configuration_is_not_printed_with_what_there_is_none_of(capsys: Any, setting: str, message: str) -> None:
    assert main(["config", setting]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err and said.err.count("\n") == 1


def test_a_configuration_is_printed_without_the_keys_of_its_services(capsys: Any) -> None:
    assert (
        main(["config", "tools.text_search=tavily", "tools.image_search=google_vision", "policy.kind=transformers"])
        == 0
    )
    assert "use: google_vision" in capsys.readouterr().out


@pytest.mark.parametrize("device", ["mars", "meta", "cuda:x", "cuda:99"])
def test_a_device_that_is_not_there(capsys: Any, png: Path, device: str) -> None:
    pytest.importorskip("torch")
    given = ["policy.kind=transformers", "policy.model=pocket", f"policy.options.device={device}"]
    line = refused(capsys, str(png), "?", *given)
    assert f"policy.options.device='{device}': cannot be used here (" in line
    assert line.endswith("give cpu, cuda, cuda:1 or mps, or leave it out.")


def test_the_published_prompts_are_looked_for_in_a_folder(
    capsys: Any, png: Path, settings: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    given = [str(png), "?", "--config", str(settings), "dialect.name=mmsearch_r1"]
    for name, problem in (("none", "no such folder"), ("notes.txt", "neither a folder nor a .yaml file")):
        line = refused(capsys, *given, f"dialect.prompts={tmp_path / name}")
        assert f"{name}: {problem}; give the `prompts` folder of the checkpoint's clone, or a .yaml file" in line


@pytest.mark.parametrize("kind", ["pocket", "transformers", "openai_compatible"])
def test_an_option_that_a_policy_does_not_have(capsys: Any, png: Path, kind: str) -> None:
    line = refused(capsys, str(png), "?", f"policy.kind={kind}", "policy.options.tempreture=1")
    assert "policy.options.tempreture: unknown option; valid: " in line
    assert "stop" in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["load", "--questions", "0"], "--questions 0: must be 1 or more"),
        (["load", "--rounds", "1"], "--rounds 1: must be 2 or more"),
        (
            ["load", "--errors", "0.9", "--timeouts", "0.2"],
            "--errors 0.9 --timeouts 0.2 --garbage 0.01: shares, together at",
        ),
        (["load", "--timeout", "0"], "--timeout 0: must be more than 0 seconds"),
        (["serve", "--gpus", "-3"], "--gpus -3: must be 0 or more"),
        (["serve", "--wait", "0"], "--wait 0: must be more than 0 seconds"),
        (["search", "index"], "give either --text WORDS or --image PICTURE"),
    ],
)
def test_a_number_that_makes_no_sense(capsys: Any, argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: [", "not YAML"),
        ("- a\n- b", "must hold keys such as `policy:`, not list"),
        ("policy: 3", "policy=3: has settings below it; set one of them: policy.model, policy.kind,"),
        ("tools: {text_serch: local}", "tools.text_serch: unknown key; did you mean 'text_search'?"),
    ],
)
def test_a_settings_file_that_is_wrong(capsys: Any, png: Path, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert message in refused(capsys, str(png), "?", "--config", str(path))


def test_a_settings_file_that_is_missing(capsys: Any, png: Path) -> None:
    assert "/nowhere.yaml: cannot be read" in refused(capsys, str(png), "?", "--config", "/nowhere.yaml")


def test_a_missing_api_key(capsys: Any, png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    line = refused(
        capsys, str(png), "?", "policy.kind=openai_compatible", "policy.model=m", "policy.api_key_env=MY_KEY"
    )
    assert "'MY_KEY' is not set; export your key" in line


@pytest.mark.parametrize("place", ["/proc/nope", "{file}", "{file}/below"])
def test_a_home_that_cannot_be_written(
    capsys: Any, png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Every program that builds the embedded index says that it cannot build it there."""
    (tmp_path / "file").touch()
    home = place.format(file=tmp_path / "file")
    monkeypatch.setenv("LENSGRAPH_HOME", home)
    line = refused(capsys, str(png), "?", "policy.kind=lensgraph.agent.policy.scripted:ScriptedPolicy")
    assert line.startswith(f"lensgraph ask: {home}: cannot be written (")
    assert line.endswith(
        "; set LENSGRAPH_HOME (for an index of your own also --out) to a folder that you may write to."
    )
    assert main(["world", "index"]) == 2
    assert capsys.readouterr().err.startswith(f"lensgraph world index: {home}: cannot be written (")
    assert main(["index", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "LENSGRAPH_HOME" in said and len(said.strip().splitlines()) == 1


def test_an_environment_variable_that_is_wrong(capsys: Any, png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSGRAPH_POLICY__MODLE", "x")
    assert "policy.modle: unknown key" in refused(capsys, str(png), "?")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("LENSGRAPH_GRPAH", "LENSGRAPH_GRAPH"),
        ("LENSGRAPH_POLCY", "LENSGRAPH_POLICY__..."),
        ("LENSGRAPH_LIMITS_TURNS", "LENSGRAPH_LIMITS__TURNS"),
        ("LENSGRAPH_CONFG", "LENSGRAPH_CONFIG"),
    ],
)
def test_a_variable_that_is_nearly_a_setting(
    capsys: Any, png: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "2")
    assert f"{name}: no variable of this program; did you mean {meant}? Rename or unset it." in refused(
        capsys, str(png), "?"
    )


def test_variables_that_a_platform_sets_for_a_service_of_this_name_are_let_be(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LENSGRAPH_PORT", "LENSGRAPH_SERVICE_HOST", "LENSGRAPH_TOOLS_PORT", "LENSGRAPH_PORT_80_TCP"):
        monkeypatch.setenv(name, "80")
    assert main(["config"]) == 0


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("lensgraph")


def test_an_unknown_option_and_an_unknown_command(capsys: Any, png: Path) -> None:
    assert "unrecognized arguments: --jsn" in refused(capsys, str(png), "?", "--jsn")
    assert main(["aks"]) == 2
    valid = "ask, config, serve, export, mcp, index, search, cache, world, bench, load, siblings"
    assert capsys.readouterr().err == f"lensgraph: unknown command 'aks'; valid: {valid}\n"
    assert main(["cache", "stat"]) == 2
    assert capsys.readouterr().err == "lensgraph cache: unknown command 'stat'; valid: stats, clear\n"


# --- what is unusual and works


def test_an_animated_gif_is_its_first_frame(capsys: Any, tmp_path: Path, settings: Path) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert answered(capsys, tmp_path / "a.gif", settings)["answer"] == "1987"


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "LA", "1", "I;16"])
def test_unusual_pixel_formats_are_converted(capsys: Any, tmp_path: Path, settings: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.new(mode, (30, 20)).save(path)
    assert answered(capsys, path, settings)["answer"] == "1987"


def test_one_pixel_is_a_picture(capsys: Any, tmp_path: Path, settings: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    result = answered(capsys, tmp_path / "dot.png", settings)
    assert set(result) == {"answer", "malformed", "searches", "sources", "stop_reason", "turns", "usage"}
    assert (result["turns"], result["searches"], result["stop_reason"]) == (2, {"image": 1, "text": 0}, "answered")


def test_a_tiny_picture_is_answered_with_a_note(capsys: Any, tmp_path: Path, settings: Path) -> None:
    """In the shown run for a person, on stderr with `--json`; none from 32 pixels a side on."""
    for name, size in (("small.png", (31, 400)), ("enough.png", (32, 32))):
        Image.new("RGB", size).save(tmp_path / name)
    note = "small.png: 31x400 pixels are too few to see much; give at least 32 a side"
    given = ["What is this?", "--config", str(settings)]
    assert main(["ask", str(tmp_path / "small.png"), *given]) == 0
    said = capsys.readouterr()
    assert note in " ".join(said.out.split())
    assert said.err == ""
    assert main(["ask", str(tmp_path / "small.png"), *given, "--json"]) == 0
    said = capsys.readouterr()
    assert note in said.err
    assert set(json.loads(said.out)) == {"answer", "malformed", "searches", "sources", "stop_reason", "turns", "usage"}
    assert main(["ask", str(tmp_path / "enough.png"), *given, "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_two_pictures_may_be_asked_about_together(
    capsys: Any, tmp_path: Path, png: Path, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both reach the policy, in order; settings stand behind the question, or anywhere behind `--set`."""
    Image.new("RGB", (64, 48), "red").save(tmp_path / "second.png")
    seen: list[Any] = []
    monkeypatch.setattr(ScriptedPolicy, "_next", lambda self, messages: seen.append(messages) or PLAYED)
    second = str(tmp_path / "second.png")
    assert (
        main(["ask", str(png), second, "Which is older?", "--json", "--config", str(settings), "limits.turns=2"]) == 0
    )
    given = ["--set", "limits.turns=2", str(png), second, "Which is older?", "--config", str(settings)]
    assert main(["ask", *given]) == 0
    capsys.readouterr()
    for messages in seen:
        pictures = [block for block in messages[0].content if block["type"] == "image"]
        sizes = [Image.open(io.BytesIO(base64.b64decode(block["base64"]))).size for block in pictures]
        assert sizes == [(40, 32), (64, 48)]
        assert "Which is older?" in messages[0].text


def test_what_is_wrong_with_a_second_picture_is_said(capsys: Any, png: Path, tmp_path: Path, settings: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert "empty.png: zero bytes" in refused(capsys, str(png), str(tmp_path / "empty.png"), "?")
    line = refused(capsys, *[str(png)] * 3, "?", "limits.pictures=2")
    assert "3 pictures in one question, the limit is 2 (limits.pictures); send fewer" in line


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["a", "q"], (["a"], "q", [])),
        (["a", "b", "q", "x.y=1", "graph=rag"], (["a", "b"], "q", ["x.y=1", "graph=rag"])),
        (["a", "x.y=1", "q"], (["a", "x.y=1"], "q", [])),
        (["a", "b=c.png", "q", "x.y=1"], (["a", "b=c.png"], "q", ["x.y=1"])),
        (["a", "x=1"], (["a"], "x=1", [])),
        (["a", "x.y=1"], (["a"], "x.y=1", [])),
        (["a", "Is a.b=c?"], (["a"], "Is a.b=c?", [])),
        (["a"], (["a"], "", [])),
    ],
)
def test_pictures_question_and_settings_are_told_apart(words: list[str], found: Any) -> None:
    assert ask.split(words) == found


async def test_a_rotated_photograph_is_searched_upright(encoded: Any) -> None:
    sideways = Image.new("RGB", (40, 20), "red")
    sideways.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270 degrees to see it upright
    data = encoded(sideways, "JPEG", exif=exif, quality=95)
    context = testing.context(["<img_search><img></img_search>", "<answer>x</answer>"])
    given = {"question": "?", "images": [data]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert context.image_search.asked == [(20, 40)]
    upright = context.store.open(state["pictures"][0]["id"])
    assert upright.getpixel((10, 5))[2] > 200, "what was left is now on top"


def test_a_symbolic_link_and_a_path_with_spaces(capsys: Any, tmp_path: Path, png: Path, settings: Path) -> None:
    (tmp_path / "my pictures").mkdir()
    link = tmp_path / "my pictures" / "ein Bild \u00e4.png"
    link.symlink_to(png)
    assert answered(capsys, link, settings)["answer"] == "1987"


# --- through the graph


def picture_block(encoded: Any) -> dict[str, str]:
    data = base64.b64encode(encoded(Image.new("RGB", (40, 30)), "PNG")).decode()
    return {"type": "image", "base64": data, "mime_type": "image/png"}


async def test_two_pictures_in_one_message_work(encoded: Any) -> None:
    block, other = picture_block(encoded), picture_block(encoded)
    message = HumanMessage([block, {"type": "text", "text": "Same?"}, other])
    context = testing.context(["<answer>yes</answer>"])
    state = await search_agent.graph.ainvoke({"messages": [message]}, context=context, output_keys=EVERYTHING)
    assert [b["type"] for b in state["dialogue"][0].content] == ["image", "image", "text"]
    assert state["answer"] == "yes"


@pytest.mark.parametrize("form", ["standard", "data uri", "openai", "openai string", "version 0", "bytes"])
async def test_every_form_of_image_block_is_understood(form: str, encoded: Any) -> None:
    data = picture_block(encoded)["base64"]
    uri = f"data:image/png;base64,{data}"
    block = {
        "standard": picture_block(encoded),
        "data uri": {"type": "image", "url": uri},
        "openai": {"type": "image_url", "image_url": {"url": uri}},
        "openai string": {"type": "image_url", "image_url": uri},
        "version 0": {"type": "image", "source_type": "base64", "data": data, "mime_type": "image/png"},
        "bytes": {"type": "image", "base64": base64.b64decode(data), "mime_type": "image/png"},
    }[form]
    context = testing.context(["<answer>yes</answer>"])
    given = {"messages": [HumanMessage([block, {"type": "text", "text": "?"}])]}
    state = await search_agent.graph.ainvoke(given, context=context, output_keys=EVERYTHING)
    assert (state["pictures"][0]["width"], state["answer"]) == (40, "yes")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "No question: give `messages`"),
        ({"messages": []}, "No question"),
        ({"messages": [AIMessage("hello")]}, "No question"),
        ({"messages": [HumanMessage([{"type": "image"}, {"type": "text", "text": "?"}])]}, "holds no picture"),
        ({"question": "", "images": []}, "The question is empty"),
        ({"question": 7}, "The question is a int; give a text."),
        ({"question": "?", "images": [7]}, "a picture cannot be a int"),
        ({"question": "?", "images": [b""]}, "zero bytes"),
        ({"question": "?", "images": [b"nonsense"]}, "not a picture"),
        ({"question": "?", "images": ["data:image/png;base64,@"]}, "broken base64"),
        ({"question": "?", "images": ["data:image/png;base64,ä"]}, "'data:image/png;base64,ä' holds broken base64"),
        ({"question": "?", "images": ["http://10.0.0.1/x.png"]}, "not a public address"),
        ({"question": "?", "images": ["ftp://example.org/x.png"]}, "paths are turned off here"),
        ({"question": "?", "images": [Path("/no/such.png")]}, "no such file"),
        ({"question": "?", "images": ["0" * 64]}, "not in the image store any more"),
        ({"question": "?", "images": [b"x"] * 9}, "9 pictures in one question, the limit is 8"),
        ({"question": "x" * 100_000}, "100,000 characters"),
    ],
)
async def test_bad_input_to_the_graph_is_one_line_before_anything_runs(given: Any, message: str) -> None:
    context = testing.context(["<answer>never</answer>"])
    with pytest.raises(BadInput) as caught:
        await search_agent.graph.ainvoke(given, context=context)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert context.policy.seen == []


async def test_a_server_can_turn_off_local_files(png: Path) -> None:
    from lensgraph.agent.images import ImageStore

    context = testing.context(["<answer>never</answer>"], store=ImageStore(local_files=False))
    with pytest.raises(BadInput, match="paths are turned off here"):
        await search_agent.graph.ainvoke({"question": "?", "images": [str(png)]}, context=context)


# --- the program itself


def test_json_mode_prints_one_object_and_nothing_else(png: Path, settings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lensgraph", "ask", str(png), "What?", "--json", "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["answer"] == "1987"
    assert done.stdout.count("\n") == 1


def test_bad_input_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "lensgraph", "ask", str(tmp_path / "no.png"), "What?"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "| pydantic" not in done.stderr
    (tmp_path / "no.png").write_text("text")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert not [name for name in ("langgraph", "torch", "langchain_core", "lancedb") if f" {name}\n" in done.stderr]


def test_giving_up_is_exit_code_1(capsys: Any, png: Path, settings: Path) -> None:
    turns = 'policy.options={"turns": ["<answer>Unable to answer due to lack of relevant information</answer>"]}'
    assert main(["ask", str(png), "What?", "--config", str(settings), turns]) == 1
    assert "no answer  gave_up" in capsys.readouterr().out


def test_a_policy_by_import_path_that_raises_is_exit_code_1_and_one_line(
    capsys: Any, png: Path, settings: Path
) -> None:
    """Here a script that ends too early: nobody knows what a foreign class raises."""
    given = ["--json", "--config", str(settings), 'policy.options={"turns": ["<img_search><img></img_search>"]}']
    assert main(["ask", str(png), "What?", *given]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["stop_reason"] == "policy_failed"
    assert said.err.count("\n") == 1
    assert "lensgraph.agent.policy.scripted:ScriptedPolicy: IndexError: the script has 1 turns" in said.err


async def test_a_bug_in_a_live_policy_stops_the_run(encoded: Any) -> None:
    context = testing.context(["<img_search><img></img_search>"])
    given = {"question": "?", "images": [encoded(Image.new("RGB", (40, 30)), "PNG")]}
    with pytest.raises(IndexError, match="the script has 1 turns"):
        await search_agent.graph.ainvoke(given, context=context)


def test_a_server_that_is_down_is_exit_code_1_and_one_line(capsys: Any, png: Path, settings: Path) -> None:
    down = [
        "policy.kind=openai_compatible",
        "policy.base_url=http://127.0.0.1:9",
        "policy.retries=0",
        "policy.options={start_wait: 0}",
    ]
    assert main(["ask", str(png), "What?", "--json", "--config", str(settings), *down]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["stop_reason"] == "policy_failed"
    assert said.err.count("\n") == 1
    assert "start a server there or set policy.base_url" in said.err
