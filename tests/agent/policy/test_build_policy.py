"""The policy that a configuration names is found, or one line says why it cannot be had."""

import subprocess
import sys
from pathlib import Path

import pytest

from lensgraph.agent.config import ConfigError, PolicyConfig
from lensgraph.agent.policy import KINDS, build, check_kind

TORCH = "policy.kind=transformers needs torch and transformers: pip install '.[hub]' in a clone of LensGraph."


@pytest.fixture
def base_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of the extra `hub`."""
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)


def test_without_the_hub_extra_one_line_says_what_to_install(base_install: None) -> None:
    for model in ("pocket", "/nowhere", "a/name-of-the-hub"):
        with pytest.raises(ConfigError) as caught:
            build(PolicyConfig(kind="transformers", model=model))
        assert str(caught.value) == TORCH


def test_a_kind_is_checked_for_its_packages_before_anything_is_loaded(base_install: None) -> None:
    with pytest.raises(ConfigError) as caught:
        check_kind("transformers")
    assert str(caught.value) == TORCH
    check_kind("pocket")
    check_kind("openai_compatible")


def test_the_other_kinds_are_built_in_the_base_install(base_install: None) -> None:
    assert build(PolicyConfig(kind="pocket", model="pocket"))._llm_type == "lensgraph-light"
    assert build(PolicyConfig(kind="openai_compatible", model="any"))._llm_type == "lensgraph-openai-compatible"


def test_an_unknown_kind_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=f"unknown kind 'gpt'; valid: {', '.join(KINDS)}, or an import path"):
        check_kind("gpt")


def test_a_question_to_a_hub_model_ends_in_one_line_in_the_base_install(repository: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
        "from lensgraph.graphs.program.main import main; "
        f"sys.exit(main(['ask', {str(repository / 'notebooks' / 'flags.png')!r}, 'Which?', 'policy.kind=transformers']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"lensgraph ask: {TORCH}\n")
