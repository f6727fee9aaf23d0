"""One schema for the world's questions and for a person's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lensgraph.rl import tasks
from lensgraph.rl.tasks import world
from lensgraph.tools.local.world.questions.world_task import WorldTask


def write(folder: Path, *rows: object) -> str:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_a_world_task_brings_its_picture_its_golds_and_the_worlds_own_record() -> None:
    task = tasks.load_tasks("world/test", limit=1)[0]
    assert task.pictures()[0].mode == "RGB"
    assert task.world is not None and task.question == task.world.question
    assert task.correct(task.golds[0]) and not task.correct("something else entirely")


def test_every_gold_of_the_test_split_is_accepted_as_an_answer() -> None:
    wrong = [
        (task.id, gold) for task in tasks.load_tasks("world/test") for gold in task.golds if not task.correct(gold)
    ]
    assert wrong == []


def test_a_limit_and_a_family_select() -> None:
    chosen = tasks.load_tasks("world/validation", limit=7, family="image")
    assert [task.family for task in chosen] == ["image"] * 7


def test_an_unknown_set_is_an_error_that_lists_the_valid_ones() -> None:
    with pytest.raises(tasks.TaskError, match="'world/tset'.*world/train, world/validation, world/test"):
        tasks.load_tasks("world/tset")
    with pytest.raises(tasks.TaskError, match="no family 'imgae'.*image_text"):
        tasks.load_tasks("world/test", family="imgae")
    with pytest.raises(tasks.TaskError, match="limit is 0"):
        tasks.load_tasks("world/test", limit=0)


def test_a_persons_own_file_is_read_with_pictures_relative_to_it(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), "red").save(tmp_path / "red.png")
    name = write(
        tmp_path,
        {"question": "Which colour?", "answers": ["red", "crimson"], "images": ["red.png"], "family": "colour"},
        {"question": "How long?", "answer": "10 km", "tolerance": {"relative": 0.1, "unit": "km"}},
    )
    first, second = tasks.load_tasks(name)
    assert first.pictures()[0].size == (8, 6) and first.correct("Crimson") and first.id == "mine.jsonl:1"
    assert second.pictures() == [] and second.correct("10.5 km") and not second.correct("12 km")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "mine.jsonl:1: not JSON"),
        ([1], "mine.jsonl:1: a list"),
        ({"question": "?", "answer": "a", "pictures": []}, "unknown key 'pictures'; the keys are id, question"),
        ({"answer": "a"}, "'question' is None"),
        ({"question": "?"}, "no 'answers'"),
        ({"question": "?", "answers": [1]}, "'answers' is"),
        ({"question": "?", "answer": "a", "image": "none.png"}, "no image file 'none.png'"),
    ],
)
def test_a_bad_line_is_an_error_that_names_the_line_and_the_fix(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(tasks.TaskError, match=message):
        tasks.load_tasks(write(tmp_path, row))


def test_a_missing_or_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tasks.TaskError, match=r"No task file 'nowhere\.jsonl'"):
        tasks.load_tasks("nowhere.jsonl")
    with pytest.raises(tasks.TaskError, match="holds no task"):
        tasks.load_tasks(write(tmp_path, ""))


def test_a_picture_that_siblings_ask_for_at_once_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody gets a copy, and other tasks of the same name (another seed) get their own picture."""
    from concurrent.futures import ThreadPoolExecutor

    world.DRAWINGS._pictures.clear()  # other tests drew, too
    drawn: list[str] = []
    render = WorldTask.render

    def counted(self: WorldTask) -> Image.Image:
        drawn.append(self.id)
        return render(self)

    monkeypatch.setattr(WorldTask, "render", counted)
    first, other = tasks.load_tasks("world/train", 1)[0], tasks.load_tasks("world/train", 1, seed=7)[0]
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda task: task.pictures()[0], [first] * 16))
    assert len(drawn) == 1
    assert len({id(picture) for picture in pictures}) == 16
    assert first.id == other.id
    assert other.pictures()[0].tobytes() != pictures[0].tobytes()
    many = tasks.load_tasks("world/train", 100, seed=8)
    for task in many:
        task.pictures()
    drawn.clear()
    many[-1].pictures()
    many[0].pictures()
    assert drawn == [many[0].id]  # the oldest were let go
