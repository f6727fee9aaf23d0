"""The wording of the user turns: one YAML file a dialect, our own words unless the user loads a checkpoint's.

Invariant: every set of prompts has exactly the keys of `KEYS`; placeholders are `<image>`, `{question}` and
`{information}`, replaced in one pass, so that a question which contains a placeholder stays a question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import yaml

from lensgraph.agent.errors import UserError
from lensgraph.tools.safety import safe_pickle
from lensgraph.tools.safety.one_line import one_line

KEYS = ("first", "after_image_search", "after_text_search", "direct", "rag_query", "rag_answer")
"""`first` opens a question, `after_*` follows an observation, `direct` and `rag_*` are the turns of the baselines."""


class PromptError(UserError):
    """Prompts that cannot be used."""


def packaged(dialect: str) -> dict[str, str]:
    """The wording that ships with the package.

    Raises:
        PromptError: none does.
    """
    place = resources.files(__name__).joinpath(f"{dialect}.yaml")
    if not place.is_file():
        raise PromptError(f"dialect.prompts: no wording ships for {dialect!r}; give a .yaml file of your own.")
    text = place.read_text(encoding="utf-8")
    return _checked(yaml.safe_load(text), f"{dialect}.yaml")


def from_yaml(path: Path) -> dict[str, str]:
    """A user's own wording, with the same keys as ours."""
    try:
        return _checked(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PromptError(
            f"dialect.prompts: {path} cannot be read as YAML ({one_line(error, 120)}); correct the path or the file."
        ) from error


def _checked(found: object, name: str) -> dict[str, str]:
    if not isinstance(found, Mapping) or not all(isinstance(value, str) for value in found.values()):
        raise PromptError(f"dialect.prompts: {name} must map {', '.join(KEYS)} to texts.")
    wrong = sorted(set(found) ^ set(KEYS))
    if wrong:
        raise PromptError(f"dialect.prompts: {name} has unknown or missing {wrong}; the keys are {', '.join(KEYS)}.")
    return dict(found)


def published(folder: Path, files: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """A checkpoint's own prompts from a clone of its repository: `{key: (file stem, sha256 of the text)}`.

    Each is a text file (`STEM.txt`) or a pickle of one string (`STEM.pkl`), in `folder` or in its `prompts` folder.
    """
    return {key: _published(folder, stem, digest) for key, (stem, digest) in files.items()}


def _published(folder: Path, stem: str, digest: str) -> str:
    places = (
        folder,
        folder / "prompts",
        *(sub / "prompts" for sub in sorted(folder.iterdir()) if sub.is_dir()),
    )
    path = next((p for place in places for p in (place / f"{stem}.pkl", place / f"{stem}.txt") if p.is_file()), None)
    if path is None:
        raise PromptError(
            f"dialect.prompts: no {stem}.pkl or {stem}.txt in {folder}; give the `prompts` folder of the checkpoint's clone."
        )
    data = path.read_bytes()
    texts = [string_in_pickle(data, path)] if path.suffix == ".pkl" else _readings(data, path)
    for text in texts:
        if hashlib.sha256(text.encode()).hexdigest() == digest:
            return text
    found = hashlib.sha256(texts[0].encode()).hexdigest()
    raise PromptError(
        f"dialect.prompts: {path} is not the published prompt (sha256 {found[:12]}..., expected {digest[:12]}...); "
        "check out the published commit, or give a .yaml file for wording of your own."
    )


def _readings(data: bytes, path: Path) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"dialect.prompts: {path} is not UTF-8 text; save it as UTF-8, or give the published .pkl file."
        ) from error
    return [text, text.removesuffix("\n")]  # editors add a final newline


def string_in_pickle(data: bytes, path: Path) -> str:
    """The one string that a pickle holds: nothing in the file is executed."""
    try:
        text = safe_pickle.read(data)
    except safe_pickle.UnsafePickle as error:
        raise PromptError(f"dialect.prompts: {path}: {error}; give the published file.") from error
    if not isinstance(text, str):
        raise PromptError(
            f"dialect.prompts: {path} holds a {type(text).__name__} instead of one text; give the published file."
        )
    return text
