"""The proposer that asks a teacher, in generate, evaluate and the first bank; and what a user may
get wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from genseg.cli import main
from genseg.data.images.files import fingerprint, list_images
from genseg.data.images.source import ImageSource, decode
from genseg.data.proposals import cut
from genseg.data.proposals.propose import TAUGHT, propose
from genseg.joint import AlphaConfig
from genseg.nn.teacher import load_teacher
from genseg.workflows.pretrain.rounds import first_bank


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    net = timm.create_model("test_convnext", pretrained=False)
    save_file(net.state_dict(), file, {"timm": "test_convnext"})
    return file


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc on darker noise, twice; and one colour."""
    folder = tmp_path_factory.mktemp("images")
    y, x = np.mgrid[:72, :96]
    for n, at in enumerate((40, 56)):
        disc = ((y - 34) ** 2 + (x - at) ** 2 < 20**2)[..., None]
        noise = np.random.default_rng(n).integers(0, 60, (72, 96, 3))
        picture = np.where(disc, noise + 180, noise // 3).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{n}.png")
    Image.new("RGB", (96, 72), (9, 90, 30)).save(folder / "flat.png")
    return folder


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut, "WHOLE", (12, 8))
    monkeypatch.setattr(cut, "CROP", 8)


def test_generate_and_evaluate_by_cuts(teacher: Path, images: Path, tmp_path: Path) -> None:
    words = ["generate", "cut", str(images), "--out", str(tmp_path / "found")]
    assert main([*words, "--teacher", str(teacher)]) == 0
    found = json.loads((tmp_path / "found" / "instances.json").read_text())
    loaded = load_teacher(str(teacher))
    for row in found["images"]:
        mine = [a for a in found["annotations"] if a["image_id"] == row["id"]]
        wanted = propose("cut", decode(images / row["file_name"]), teacher=loaded)
        assert [a["score"] for a in mine] == pytest.approx([i.score for i in wanted], abs=1e-4)
        assert [a["area"] for a in mine] == [i.area for i in wanted]
        assert bool(mine) == (row["file_name"] != "flat.png")
    # the same weights elsewhere are the same teacher
    moved = shutil.copy(teacher, tmp_path / "moved.safetensors")
    assert main([*words, "--teacher", str(moved)]) == 0
    shutil.copy(tmp_path / "found" / "instances.json", images / "labels.json")
    scores = ["evaluate", "alpha", "cut", "centre", "--data", str(images / "labels.json")]
    scores += ["--teacher", str(teacher), "--out", str(tmp_path / "scores.json")]
    assert main(scores) == 0
    numbers = json.loads((tmp_path / "scores.json").read_text())["predictions"]["cut"]["all"]
    assert numbers["mask AP"] == pytest.approx(1)
    assert main(["evaluate", "alpha", "centre", *scores[4:]]) == 2  # which asks none
    assert main(["evaluate", "alpha", "cut", *scores[4:6]]) == 2
    (images / "labels.json").unlink()


def test_the_first_bank_is_kept_by_teacher(
    teacher: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path))
    listed = list_images(str(images))
    source, content = ImageSource(listed, None), fingerprint(listed)

    def bank(file: Path) -> tuple[Any, int]:
        config = AlphaConfig(proposals="cut", teacher=str(file))
        made = first_bank(content, source, config, workers=2)
        return made, len(list((tmp_path / "proposals").iterdir()))

    first, files = bank(teacher)
    assert files == 1 and len(first)
    wanted = propose("cut", source.read(0)[0], teacher=load_teacher(str(teacher)))
    assert [first[k].area for k in first.of_image(0)] == [i.area for i in wanted]

    def refuse(*words: Any, **options: Any) -> list[Any]:
        raise AssertionError("the cache has them")

    monkeypatch.setitem(TAUGHT, "cut", refuse)
    again, files = bank(teacher)
    assert files == 1 and np.array_equal(again.alphas, first.alphas)
    monkeypatch.undo()
    monkeypatch.setenv("GENSEG_CACHE", str(tmp_path))
    other = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    net = timm.create_model("test_convnext", pretrained=False)
    save_file(net.state_dict(), other, {"timm": "test_convnext"})
    monkeypatch.setattr(cut, "WHOLE", (8, 6))
    monkeypatch.setattr(cut, "CROP", 6)
    assert bank(other)[1] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cut"], "cut proposes by what a frozen teacher sees"),
        (["otsu", "--teacher", "TEACHER"], "otsu asks no teacher"),
        (["cut", "--teacher", "nowhere.safetensors"], "there is no file"),
        (["cut", "--teacher", "TEACHER", "--teacher-name", "test_vit"], "does not fit"),
        (["cut", "--teacher", "test_vit.r160_in1k"], "hf download timm/test_vit.r160_in1k"),
    ],
)
def test_mistakes_end_with_2(
    words: list[str],
    said: str,
    teacher: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(teacher) if word == "TEACHER" else word for word in words]
    out = ["--out", str(tmp_path / "out")]
    assert main(["generate", given[0], str(images), *given[1:], *out]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_recipe_s_teacher_goes_with_cut() -> None:
    with pytest.raises(ValueError, match=r"alpha.teacher"):
        AlphaConfig(proposals="cut")
    with pytest.raises(ValueError, match=r"alpha.teacher: tree asks no teacher"):
        AlphaConfig(teacher="vit.safetensors")
