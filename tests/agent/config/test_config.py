"""Settings: where they come from, which wins, and that each says what it means."""

import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr

from lensgraph.agent.config import Config, ConfigError, ToolsConfig, ToolSpec, load_config, render
from lensgraph.agent.config import ready as config_names
from lensgraph.agent.context import Backends, Context
from lensgraph.graphs.program.main import main
from lensgraph.tools.safety.redact import without_keys


def test_defaults_are_the_embedded_world_and_the_pocket_policy() -> None:
    config = load_config(environ={})
    assert (config.policy.kind, config.policy.model) == ("pocket", "pocket")
    assert (config.dialect.name, config.tools.text_search.use) == ("compact", "local")


def test_the_kind_of_a_policy_follows_its_model_unless_it_is_set() -> None:
    assert load_config(overrides=["policy.model=some/folder"], environ={}).policy.kind == "transformers"
    assert load_config(overrides=["policy.model=some/folder", "policy.kind=pocket"], environ={}).policy.kind == "pocket"
    assert load_config(overrides=["policy.kind=transformers"], environ={}).policy.kind == "transformers"


def test_a_later_source_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("policy: {model: from-yaml, temperature: 0.5}\nlimits: {turns: 3}\n")
    environ = {"LENSGRAPH_POLICY__MODEL": "from-environment", "LENSGRAPH_LIMITS__TURNS": "4"}
    config = load_config(path, ["limits.turns=5"], environ)
    assert (config.policy.temperature, config.policy.model, config.limits.turns) == (0.5, "from-environment", 5)


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("policy: {model: m}")
    assert load_config(environ={"LENSGRAPH_CONFIG": str(path)}).policy.model == "m"


def test_other_variables_of_the_package_are_left_alone() -> None:
    assert load_config(environ={"LENSGRAPH_HOME": "/x", "PATH": "/bin"}) == Config()


def test_values_have_their_yaml_type() -> None:
    config = load_config(
        overrides=["dialect.lenient=true", "images.folder=null", 'policy.options={"a": [1, x]}'], environ={}
    )
    assert (config.dialect.lenient, config.images.folder, config.policy.options) == (True, None, {"a": [1, "x"]})


def test_a_tool_takes_its_providers_options() -> None:
    config = load_config(overrides=["tools.text_search=local", "tools.text_search.k=3"], environ={})
    assert config.tools.text_search.model_dump() == {"use": "local", "k": 3}


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").touch()
    assert load_config(tmp_path / "a.yaml", environ={}) == Config()


def test_an_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides=["policy.options=" + "x" * 500], environ={})
    assert len(str(caught.value)) < 250


def test_what_config_prints_is_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "limits.turns=4", "tools.locate.use=grounding_dino", "tools.locate.device=cpu"]) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "printed.yaml"
    path.write_text(printed)
    config = load_config(path, environ={})
    assert config.limits.turns == 4
    assert config.tools.locate.model_dump() == {"use": "grounding_dino", "device": "cpu"}
    assert render(config) == printed
    assert yaml.safe_load(render(Config())) == Config().model_dump()


@pytest.mark.parametrize("name", config_names())
def test_every_ready_configuration_is_printed_as_it_is_read(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also what lies deeper than one setting: options of the policy, the reader of pages."""
    deep = "tools.locate={use: policy_boxes, words: {use: owlv2, model: [1, {of: a}]}}"
    assert main(["config", "--config", name, deep]) == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    given = load_config(name, [deep], environ={})
    assert load_config(path, environ={}) == given
    assert render(load_config(path, environ={})) == path.read_text()


def test_every_setting_says_what_it_means() -> None:
    def walk(section: type[BaseModel], path: str) -> None:
        for name, field in section.model_fields.items():
            assert field.description, f"{path}{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                walk(field.annotation, f"{path}{name}.")

    walk(Config, "")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("tools.text_search={use: brave, api_key: X}", "export it as BRAVE_SEARCH_API_KEY"),
        ("tools.text_search.api_key=X", "export it in the environment variable that the provider reads"),
        ("tools.locate={use: served_policy, api_key: [X]}", "export it as LENSGRAPH_LOCATE_API_KEY"),
        ("tools.text_search.read.reader={use: jina, api-key: X}", "export it as JINA_API_KEY"),
        (
            "tools.text_search.read.summarise.model={api_key: X}",
            "name its variable: tools.text_search.read.summarise.mod",
        ),
        ("tools.image_search.publisher={secret_access_key: X}", "export AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        ("policy.options.api_key=X", "export it and name its variable: policy.api_key_env"),
        ("policy.options.default_headers.Authorization=X", "policy.api_key_env"),
        ("policy.options.default_headers.x-subscription-token=X", "policy.api_key_env"),
        ("policy.options.extra_body.key=X", "policy.api_key_env"),
        ("policy.options.extra_body.session=sk-X", "policy.api_key_env"),
        ("tools.text_search.key=X", "export it in the environment variable that the provider reads"),
        ("tools.text_search={use: brave, subscription_token: X}", "export it as BRAVE_SEARCH_API_KEY"),
        ("tools.text_search={use: tavily, more: [tvly-X]}", "begin it with ./"),
        ("tools.image_search.api_keys=[X]", "a key is no setting"),
    ],
)
def test_a_key_is_refused_wherever_it_is_written_and_not_shown(
    setting: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = setting.replace("X", "s3cret-s3cret")
    name, _, value = setting.partition("=")
    variable = {f"LENSGRAPH_{name.replace('.', '__').upper()}": value}
    file = tmp_path / "c.yaml"
    tree = yaml.safe_load(value)
    for part in reversed(name.split(".")):
        tree = {part: tree}
    file.write_text(yaml.safe_dump(tree))
    assert main(["config", setting]) != 0
    told = [capsys.readouterr().err.strip()]
    for given in ({"overrides": [setting]}, {"environ": variable}, {"path": file}):
        with pytest.raises(ConfigError) as caught:
            load_config(**{"environ": {}, **given})  # type: ignore[arg-type]
        told.append(str(caught.value))
    for text in told:
        assert words in text
        assert "s3cret" not in text
        assert "\n" not in text


BODY = "aB3dE6gH9jK2mN5pQ8sT1v"
KEYS = (
    *(prefix + BODY for prefix in ("", "sk-", "sk-proj-", "tvly-", "hf_", "jina_", "BSA", "AIza", "gsk_")),
    "3fa9c0d2" * 4, "AKIA" + BODY.upper()[:16], "123e4567-e89b-12d3-a456-426614174000", "sk-of-letters-only",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_the_wrong_place_is_not_shown(key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Bare on the command line, as a command, an option, a picture, where a variable's name or a number belongs."""
    wrong = [
        ["config", key],
        [key],
        ["config", f"--{key}", "x"],
        ["config", f"--key={key}"],
        ["ask", key, "What is this?"],
        ["config", "--config", key],
        ["config", f"policy.api_key_env={key}"],
        ["config", f"tools.text_search={{use: brave, read: {{summarise: {{model: {{api_key_env: {key}}}}}}}}}"],
        ["config", f"policy.temperature={key}"],
        ["config", f"graph={key}"],
        ["config", f"{key}=1"],
        ["config", f"policy.{key}=1"],
        ["config", f"limits.turns={key}", "limits.turns.x=1"],
        ["config", f"tools.text_search={key}", "tools.text_search=1"],
        ["ask", __file__, "What?", f"tools.text_search={key}"],
    ]
    for arguments in wrong:
        try:
            code = main(arguments)
        except SystemExit as error:  # argparse
            code = error.code  # type: ignore[assignment]
        said = capsys.readouterr().err
        assert code == 2, arguments
        assert said.count("\n") == 1
        assert key not in said, arguments
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"policy": {"api_key_env": key}}))
    for given in ({"path": file}, {"environ": {"LENSGRAPH_POLICY__API_KEY_ENV": key}}, {"overrides": [key]}):
        with pytest.raises(ConfigError) as caught:
            load_config(**{"environ": {}, **given})  # type: ignore[arg-type]
        assert key not in "".join(traceback.format_exception(caught.value))


def test_a_name_in_the_wrong_place_is_shown() -> None:
    """Only what looks like a key is hidden: a message must name what is wrong."""
    for name in (
        "policy.modle", "Qwen/Qwen2.5-VL-7B-Instruct", "lmms-lab/MMSearch-R1-7B", "GroundingDinoLocator", "a_long_name_of_mine",
        "hf_hub_download", "deepmmsearch_r1", "sk-learn", "/tmp/run7/3fa9c0d2e7b84a51", "http://127.0.0.1:8000/v1",
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            load_config(overrides=[name], environ={})
        assert name in str(caught.value)
        assert name in without_keys(f"cannot find {name}; check it")
    for variable in ("OPENAI_API_KEY", "MY_KEY_2", "vllm_key", "LENSGRAPH_LOCATE_API_KEY"):
        assert load_config(overrides=[f"policy.api_key_env={variable}"], environ={}).policy.api_key_env == variable


def test_the_printed_configuration_shows_no_login_and_nothing_that_looks_like_a_key() -> None:
    settings = [
        "policy.base_url=http://me:hunter2@host:8000/v1", f"policy.options.extra_body.session={BODY}",
        "tools.text_search.base_url=https://host/x?key=hunter2&q=1",
        f"tools.image_search.headers={{X-Session: 'Bearer {BODY}', n: 3, near: true}}",
    ]  # fmt: skip
    printed = render(load_config(overrides=settings, environ={}))
    assert "hunter2" not in printed
    assert BODY not in printed
    assert "base_url: http://***@host:8000/v1" in printed
    assert yaml.safe_load(printed)["tools"]["image_search"]["headers"] == {
        "X-Session": "Bearer ***",
        "n": 3,
        "near": True,
    }


def test_a_program_may_still_give_a_key() -> None:
    given = Config(tools=ToolsConfig(text_search=ToolSpec(use="brave", api_key=SecretStr("s3cret"))))  # type: ignore[call-arg]
    tool: Any = Backends(Context(config=given)).build_tool("text_search")
    assert tool.key == "s3cret"
    assert "s3cret" not in render(given)


def test_names_that_only_sound_like_a_key_are_settings() -> None:
    settings = [
        "policy.max_new_tokens=9",
        "policy.api_key_env=THE_KEY",
        "limits.tokens=9",
        "policy.options.token_ids=true",
        "policy.options.extra_body.stop_token=x",
        "tools.text_search.index=./sk-of-letters-only",
    ]
    assert load_config(overrides=settings, environ={}).policy.api_key_env == "THE_KEY"


def test_no_line_of_the_printed_configuration_stands_without_its_meaning() -> None:
    """The settings of the tools' cache too."""
    lines = render(load_config(environ={})).splitlines()
    keys = [number for number, line in enumerate(lines) if line and not line.lstrip().startswith(("#", "-"))]
    assert len(keys) > 40
    for number in keys:
        above = lines[number - 1].lstrip()
        assert above.startswith("# ") and above.endswith("."), f"{lines[number]!r} has no sentence above it"


def test_what_is_left_to_the_dialect_is_printed_with_its_number() -> None:
    printed = render(load_config(environ={}))
    assert "  # Here: 6 (compact).\n  turns: null" in printed
    assert "  # Here: no limit (compact).\n  tokens: null" in printed
    assert "  # Here: 1 shown (compact).\n  text_search:" in printed
    printed = render(load_config(overrides=["dialect.name=mmsearch_r1", "limits.turns=2"], environ={}))
    assert "  # Here: 8192 (mmsearch_r1).\n  tokens: null" in printed
    assert "  # Here: 5 shown (mmsearch_r1).\n  image_search:" in printed
    assert "last one may only answer.\n  turns: 2" in printed
    printed = render(load_config(overrides=["tools.image_search.k=3"], environ={}))
    assert "shown (compact).\n  text_search:" in printed
    assert "shown (compact).\n  image_search:" not in printed
