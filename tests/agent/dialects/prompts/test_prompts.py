"""Wording: our own by default, the user's by file, the checkpoint's by hash and without executing anything."""

import hashlib
import pickle
from pathlib import Path

import pytest

from lensgraph.agent.dialects import mmsearch_r1
from lensgraph.agent.dialects.prompts import KEYS, PromptError, packaged, string_in_pickle
from lensgraph.agent.dialects.table import DIALECTS, build

STEMS = {key: stem for key, (stem, _) in mmsearch_r1.PUBLISHED.items()}
TEXTS = {"first": "P1 <image> ", "after_image_search": "P2 {question} <|im_end|>", "after_text_search": "P3"}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the user's clone: other texts, and their hashes as the published ones."""
    published = {key: (stem, hashlib.sha256(TEXTS[key].encode()).hexdigest()) for key, stem in STEMS.items()}
    monkeypatch.setattr(mmsearch_r1, "PUBLISHED", published)
    folder = tmp_path / "mmsearch_r1" / "prompts"
    folder.mkdir(parents=True)
    for key, stem in STEMS.items():
        (folder / f"{stem}.pkl").write_bytes(pickle.dumps(TEXTS[key]))
    return folder


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_every_dialect_has_its_wording(dialect: str) -> None:
    assert set(packaged(dialect)) == set(KEYS)
    assert "<image>" in packaged(dialect)["first"]
    assert "{question}" in packaged(dialect)["first"]


def test_the_environments_literals_are_the_published_ones() -> None:
    """The hashes of the training form; one changed character would be another protocol."""
    failed = [f"[{kind} Search Results] {mmsearch_r1.FAILED}" for kind in ("Image", "Text")]
    hashes = [
        hashlib.sha256(text.encode()).hexdigest()[:16]
        for text in (mmsearch_r1.IMAGE_HEADER, mmsearch_r1.TEXT_HEADER, *failed)
    ]
    assert hashes == ["6696d0255f81f309", "5dd09539ed517cc9", "c06dd7c7f297da9a", "7d45c75ecb48a775"]


@pytest.mark.parametrize("above", [0, 1, 2])
def test_the_checkpoints_prompts_are_found_in_a_clone(clone: Path, above: int) -> None:
    """The `prompts` folder, the package's folder, or the clone itself."""
    folder = [clone, clone.parent, clone.parent.parent][above]
    dialect = build("mmsearch_r1", prompts=folder)
    content = dialect.first("When?", ["a"])[0].content
    assert content == [
        {"type": "text", "text": "P1 "},
        {"type": "image", "id": "a"},
        {"type": "text", "text": " When?"},
    ]
    assert dialect.prompts["after_text_search"] == "P3"


@pytest.mark.parametrize("ending", ["", "\n"])
def test_text_files_are_read_too(clone: Path, ending: str) -> None:
    for key, stem in STEMS.items():
        (clone / f"{stem}.pkl").unlink()
        (clone / f"{stem}.txt").write_text(TEXTS[key] + ending)
    assert build("mmsearch_r1", prompts=clone).prompts["after_image_search"] == TEXTS["after_image_search"]


def test_another_text_is_refused_by_its_hash(clone: Path) -> None:
    (clone / f"{STEMS['first']}.pkl").write_bytes(pickle.dumps("P1 changed"))
    with pytest.raises(PromptError, match=r"is not the published prompt \(sha256 .*check out the published commit"):
        build("mmsearch_r1", prompts=clone)


def test_a_missing_prompt_is_named(clone: Path) -> None:
    (clone / f"{STEMS['first']}.pkl").unlink()
    with pytest.raises(PromptError, match=r"no round_1_user_prompt_qwenvl\.pkl or round_1"):
        build("mmsearch_r1", prompts=clone)


class Evil:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, (str(self.path), "w"))  # type: ignore[return-value]


def test_nothing_in_a_pickle_is_executed(clone: Path, tmp_path: Path) -> None:
    (clone / f"{STEMS['first']}.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "pwned")))
    with pytest.raises(PromptError, match="it was not executed"):
        build("mmsearch_r1", prompts=clone)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_text_is_read_in_every_protocol(protocol: int) -> None:
    text = "several\nlines \u00e4\u2039" * 200
    assert string_in_pickle(pickle.dumps(text, protocol), Path("x.pkl")) == text


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(["a", "b"]), pickle.dumps(7)])
def test_anything_but_one_text_is_refused(data: bytes) -> None:
    with pytest.raises(PromptError):
        string_in_pickle(data, Path("x.pkl"))


def test_a_users_own_wording_has_the_same_keys(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**packaged("deepmmsearch_r1"), "first": "Look: <image>{question}"}))
    assert build("deepmmsearch_r1", prompts=path).first("When?", [])[0].content == "Look: When?"
    path.write_text("first: hello")
    with pytest.raises(PromptError, match="unknown or missing"):
        build("deepmmsearch_r1", prompts=path)
    path.write_text("[")
    with pytest.raises(PromptError, match="cannot be read as YAML"):
        build("deepmmsearch_r1", prompts=path)


def test_a_placeholder_in_the_question_stays_text() -> None:
    content = build("mmsearch_r1").first("What is {information} and <image>?", ["a"])[0].content
    assert [block["type"] for block in content] == ["text", "image", "text"]
    assert content[2]["text"].endswith("What is {information} and \u2039image>?")
