"""What people type and send. What can work works; the rest is one line that names the value and the fix, exit code 2.

Through the command line where a person meets it, through the graph where a program does.
"""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from agent import testing
from agent.__main__ import main
from agent.question import BadInput
from agent.state import EVERYTHING
from graphs import search_agent


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 30), "teal").save(path)
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
    assert (code, said.err) == (0, "")
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
    assert "40x30 pixels is over the cap of 100" in refused(capsys, str(png), "?", "images.max_pixels=100")


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b.png", "~nobody-by-this-name/x.png"])
def test_an_impossible_path(capsys: Any, path: str) -> None:
    assert refused(capsys, path, "?").startswith("lensgraph ask: ")


def test_an_address_inside_the_network(capsys: Any, settings: Path) -> None:
    line = refused(capsys, "http://127.0.0.1/x.png", "?", "--config", str(settings))
    assert "not a public address" in line


def test_a_data_uri_with_broken_base64(capsys: Any) -> None:
    assert "broken base64" in refused(capsys, "data:image/png;base64,@@@", "?")


# --- questions that cannot be used


@pytest.mark.parametrize("question", [[], [""], ["   "]])
def test_no_question(capsys: Any, png: Path, question: list[str]) -> None:
    assert "no question" in refused(capsys, str(png), *question)


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
        ("tools.text_search.kk=3", "tools.text_search: unknown key 'kk' for 'agent.testing:FixedText'; valid keys:"),
        ("tools.image_search.use=no.such:Thing", "cannot be imported"),
        ("policy.kind=gpt", "policy.kind: unknown kind 'gpt'; valid: pocket, transformers, openai_compatible"),
        ("policy.kind=no.such:Policy", "cannot be imported"),
        ("policy.kind=agent.errors:UserError", "is no LangChain chat model"),
        ("dialect.name=esperanto", "dialect.name='esperanto': Input should be 'compact', 'deepmmsearch_r1'"),
        ("dialect.prompts=/nowhere.txt", "dialect.prompts: /nowhere.txt is no .yaml file"),
        ("limits.turns=many", "limits.turns='many': Input should be a valid integer"),
        ("limits.turns=0", "limits.turns=0: Input should be greater than or equal to 1"),
        ("limits.turns.x=1", "limits.turns={x: ...}: Input should be a valid integer"),
        ("graph=circle", "graph='circle': Input should be 'search_agent', 'direct' or 'rag'"),
        ("tools.text_search={use: local, index: /nowhere}", "/nowhere"),
        ("policy", "'policy' is not a setting; write it as key.key=value"),
        ("policy.model=/nowhere/at/all", "policy.model="),
    ],
)
def test_a_setting_that_is_wrong(capsys: Any, png: Path, settings: Path, setting: str, message: str) -> None:
    fixed = [] if setting.startswith(("policy.model=", "policy.kind")) else ["--config", str(settings)]
    assert message in refused(capsys, str(png), "?", setting, *fixed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy: [", "not YAML"),
        ("- a\n- b", "must hold keys such as `policy:`, not list"),
        ("policy: 3", "policy=3: Input should be a valid dictionary"),
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


def test_an_environment_variable_that_is_wrong(capsys: Any, png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSGRAPH_POLICY__MODLE", "x")
    assert "policy.modle: unknown key" in refused(capsys, str(png), "?")


def test_an_unknown_option_and_an_unknown_command(capsys: Any, png: Path) -> None:
    assert "unrecognized arguments: --jsn" in refused(capsys, str(png), "?", "--jsn")
    assert main(["aks"]) == 2
    assert (
        capsys.readouterr().err
        == "lensgraph: unknown command 'aks'; valid: ask, serve, config, bench, load, siblings, mcp\n"
    )


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
    assert set(result) == {"answer", "sources", "turns", "searches", "stop_reason", "usage"}
    assert (result["turns"], result["searches"], result["stop_reason"]) == (2, {"image": 1, "text": 0}, "answered")


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
        ({"question": "?", "images": ["http://10.0.0.1/x.png"]}, "not a public address"),
        ({"question": "?", "images": ["ftp://example.org/x.png"]}, "no such file"),
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
    from agent.images import ImageStore

    context = testing.context(["<answer>never</answer>"], store=ImageStore(local_files=False))
    with pytest.raises(BadInput, match="paths are turned off here"):
        await search_agent.graph.ainvoke({"question": "?", "images": [str(png)]}, context=context)


# --- the program itself


def test_json_mode_prints_one_object_and_nothing_else(png: Path, settings: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent", "ask", str(png), "What?", "--json", "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["answer"] == "1987"
    assert done.stdout.count("\n") == 1


def test_bad_input_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "agent", "ask", str(tmp_path / "no.png"), "What?"]
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


def test_a_server_that_is_down_is_exit_code_1_and_one_line(capsys: Any, png: Path, settings: Path) -> None:
    down = [
        "policy.kind=openai_compatible",
        "policy.base_url=http://127.0.0.1:9",
        "policy.retries=0",
        "policy.options={}",
    ]
    assert main(["ask", str(png), "What?", "--json", "--config", str(settings), *down]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["stop_reason"] == "policy_failed"
    assert said.err.count("\n") == 1
    assert "start a server there or set policy.base_url" in said.err
