"""Cells: what makes two of them one, which images they see, who makes them; mistakes in a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from noise import write_classes

from genseg.config import ConfigError
from genseg.data.images.files import list_images
from genseg.runs.folder import RunError
from genseg.workflows.study.cells import Cell, plan_cells, refuse_other, share, unique
from genseg.workflows.study.config import StudyConfig, load_study
from genseg.workflows.study.data import StudyData, study_data

SIMPLE = """
claim: One is better.
recipe: simclr
keys: [views.both.size=32, batch_size=4, data.cache=0]
images: 8
seeds: 2
arms:
  random: {kind: random}
  simclr: {}
  again: {keys: [method.temperature=0.2, log_every=1 steps, threads=1]}
  cold: {keys: [method.temperature=0.1]}
  longer: {images: 2}
  started: {start: simclr}
  twice: {start: started}
statements: [simclr > random, started > simclr]
short: {seeds: 1, images: 4, arms: [random, twice]}
"""


@pytest.fixture
def data(tmp_path: Path) -> StudyData:
    (tmp_path / "images").mkdir()
    return study_data(str(write_classes(tmp_path / "images", 20, ".png")), tmp_path / "lists")


def study_of(
    tmp_path: Path, text: str = SIMPLE, *overrides: str, short: bool = False
) -> StudyConfig:
    (tmp_path / "simple.yaml").write_text(text)
    return load_study(tmp_path / "simple.yaml", ["data=none", *overrides], short=short)


def by_name(cells: list[Cell]) -> dict[tuple[str, int], Cell]:
    return {(c.arm, c.seed): c for c in cells}


def test_cells_are_one_where_all_that_decides_their_weights_is(
    tmp_path: Path, data: StudyData
) -> None:
    study = study_of(tmp_path)
    cells = by_name(plan_cells(study, data, tmp_path))
    assert len(cells) == 14 and len({c.folder for c in cells.values()}) == 12
    assert cells["simclr", 0].folder == cells["again", 0].folder  # the recipe says 0.2, too
    assert cells["simclr", 0].folder != cells["simclr", 1].folder != cells["cold", 1].folder
    assert cells["simclr", 0].folder.name.startswith("simclr-")
    assert cells["random", 0].folder.name.startswith("random-")
    assert cells["longer", 0].config.images == 16 and cells["simclr", 0].config.images == 8
    assert cells["simclr", 1].config.seed == 1 and cells["simclr", 0].config.epochs is None
    assert cells["started", 1].config.encoder.weights == str(cells["simclr", 1].run)
    assert [cells[a, 0].depth for a in ("simclr", "started", "twice")] == [0, 1, 2]
    moved = replace(data, train="elsewhere")  # with the same content
    assert plan_cells(study, moved, tmp_path)[1].folder == cells["simclr", 0].folder
    other = replace(data, content="other")
    changed = by_name(plan_cells(study, other, tmp_path))
    assert changed["simclr", 0].folder != cells["simclr", 0].folder
    assert changed["random", 0].folder == cells["random", 0].folder  # it sees no image
    assert len(unique(list(cells.values()))) == 12


def test_shards_share_all_cells_and_keep_chains_together(tmp_path: Path, data: StudyData) -> None:
    cells = plan_cells(study_of(tmp_path), data, tmp_path)
    parts = [share(cells, n, 3) for n in range(3)]
    assert sorted(c.title for part in parts for c in part) == sorted(c.title for c in cells)
    for part in parts:
        folders = {c.folder for c in part}
        assert folders.isdisjoint(c.folder for p in parts if p is not part for c in p)
        assert all(c.start.folder in folders for c in part if c.start is not None)


def test_the_short_form_changes_what_it_names_and_keeps_what_was_given(tmp_path: Path) -> None:
    short = study_of(tmp_path, short=True)
    assert (short.seeds, short.images) == (1, 4)
    assert list(short.arms) == ["random", "simclr", "started", "twice"]
    assert study_of(tmp_path, SIMPLE, "seeds=3", short=True).seeds == 3
    assert short.statements == ("simclr > random", "started > simclr")


def test_a_tenth_is_held_out_and_parts_are_nested(tmp_path: Path, data: StudyData) -> None:
    train, test = list_images(data.train), list_images(data.test)
    assert (len(train), len(test), train.classes) == (18, 2, ("a", "b"))
    assert not set(train.files) & set(test.files) and set(test.labels or ()) == {0, 1}
    few, many = (list_images(data.part(n, 0)[0]) for n in (4, 8))
    assert set(few.files) < set(many.files) < set(train.files)
    assert sorted(few.labels or ()) == [0, 0, 1, 1]
    assert set(list_images(data.part(4, 1)[0]).files) != set(few.files)
    assert data.part(0, 0) == data.part(18, 1) == (data.train, "")
    with pytest.raises(ValueError, match="subset=19: .* has 18 images"):
        data.part(19, 0)


def test_train_and_test_are_taken_where_they_are(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        write_classes(tmp_path / name, 4, ".png")
    found = study_data(str(tmp_path), tmp_path / "lists")
    assert found.train == str(tmp_path / "train") and found.test == str(tmp_path / "test")
    (tmp_path / "test/c").mkdir()
    (tmp_path / "test/a/0.png").rename(tmp_path / "test/c/0.png")
    with pytest.raises(ValueError, match=r"train has the classes .* and test \['a', 'b', 'c'\]"):
        study_data(str(tmp_path), tmp_path / "lists")


def test_lists_hold_where_the_images_are_now(tmp_path: Path) -> None:
    """They hold paths, and a folder that is moved has the same content."""
    images, lists = write_classes(_made(tmp_path / "images"), 20, ".png"), tmp_path / "lists"
    before = study_data(str(images), lists)
    before.part(4, 0)
    images.rename(tmp_path / "moved")
    after = study_data(str(tmp_path / "moved"), lists)
    assert after.content == before.content
    for path in (after.train, after.test, after.part(4, 0)[0]):
        listed = list_images(path)
        assert all("moved" in str(listed.path(i)) for i in range(len(listed)))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_cell_knows_the_files_that_it_learns_from(tmp_path: Path, data: StudyData) -> None:
    words = tmp_path / "words.txt"
    keys = f"{{recipe: byol_semantic, keys: [method.target.words={words}]}}"
    text = SIMPLE.replace("views.both.size=32, ", "").replace(
        "  cold:", f"  named: {keys}\n  cold:"
    )
    study = study_of(tmp_path, text)
    words.write_text("a 1 0\nb 0 1\n")
    cell = by_name(plan_cells(study, data, tmp_path))["named", 0]
    cell.folder.mkdir(parents=True)
    (cell.folder / "cell.json").write_text(json.dumps({"described": cell.described}))
    refuse_other(cell)
    words.write_text("a 1 0\nb 0 2\n")
    again = by_name(plan_cells(study, data, tmp_path))["named", 0]
    assert again.folder == cell.folder
    with pytest.raises(RunError, match="content of method.target.words"):
        refuse_other(again)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("start: simclr", "start: nobody", "arms.started.start=nobody: the arms are random, sim"),
        ("start: simclr", "start: twice", "is a circle"),
        ("kind: random", "kind: random, start: simclr", "is not trained, so it starts from no"),
        ("simclr > random", "simclr > nobody", "there is no arm nobody"),
        ("simclr > random", "simclr random", "write it as"),
        ("{images: 2}", "{keys: [steps=3]}", "arms.longer: steps: a study sets this itself"),
        ("{images: 2}", "{keys: [method.queue=3]}", "arms.longer: .*method.queue"),
        ("{images: 2}", "{recipe: none}", "arms.longer: none: there is no such file"),
        ("{images: 2}", "{images: 0}", "images=0: it has to be above 0"),
        ("  longer:", "  a b:", "a name has letters"),
        ("images: 8", "images: 8\nmeasures: [knn, good]", "measures: good is none; choose of knn"),
        ("arms: [random, twice]", "arms: [nobody]", "short.arms: there is no arm nobody"),
        ("claim:", "clam:", "unknown key clam"),
        ("images: 8", "images: 8\nmetric: knnn", "give no knnn; there is no number of that name"),
        ("> random, st", "> random on linear, st", "give no linear; add linear to measures"),
        ("images: 8", "images: 8\ncorrelate: lidar", "add representation to measures"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, data: StudyData, old: str, new: str, message: str
) -> None:
    assert old in SIMPLE
    with pytest.raises(ConfigError, match=message):
        plan_cells(study_of(tmp_path, SIMPLE.replace(old, new)), data, tmp_path)
