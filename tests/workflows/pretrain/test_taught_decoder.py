"""Runs whose decoder takes a teacher's features: killed and gone on with, used by generate, refused
with another teacher."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from composed import command, draw_images
from safetensors.torch import save_file

from genseg.cli import main
from genseg.nn.weights import read_facts

pytestmark = pytest.mark.usefixtures("few_composites")


def write_teacher(file: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), file)
    return file


def test_a_killed_run_ends_as_an_undisturbed_one_and_is_used_with_its_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    images = draw_images(tmp_path / "images")
    teacher = write_teacher(tmp_path / "teacher.safetensors", 0)
    keys = [
        *(f"alpha.teacher={teacher}", "alpha.teacher_name=test_vit", "alpha.teacher_level=true"),
        *("alpha.decoder.grids=[4,8,16,32,64]", "alpha.decoder.tower=16", "steps=2"),
        *("alpha.rounds.count=1", "checkpoint.every=1 steps"),
    ]
    run, killed = tmp_path / "run", tmp_path / "killed"
    assert main(command("places", images, run, *keys)) == 0
    told = capsys.readouterr()
    assert "the decoder takes the features of test_vit" in told.out + told.err
    assert read_facts(run / "alpha.safetensors")["teacher"]["file"] == "teacher.safetensors"
    shutil.copytree(run, killed)
    (killed / "checkpoints/latest").write_text("step_00000001\n")
    assert main(command("places", images, killed, *keys)) == 0
    assert (killed / "alpha.safetensors").read_bytes() == (run / "alpha.safetensors").read_bytes()

    def found(out: str, *more: str) -> int:
        words = ["generate", str(run), str(images), "--out", str(tmp_path / out)]
        return main([*words, "--score", "0", *more])

    assert found("a") == 0
    moved = teacher.rename(tmp_path / "moved.safetensors")
    capsys.readouterr()
    assert found("b") == 2
    assert "takes the features of a frozen teacher" in capsys.readouterr().err
    assert found("b", "--teacher", str(moved)) == 0
    labels = str(tmp_path / "a/instances.json")
    measured = ["evaluate", "alpha", str(run), "centre", "--data", labels]
    assert main(measured) == 2
    assert main([*measured, "--teacher", str(moved)]) == 0
    first, second = (
        json.loads((tmp_path / out / "instances.json").read_text())["annotations"] for out in "ab"
    )
    assert first and [a["bbox"] for a in first] == [a["bbox"] for a in second]
    (killed / "checkpoints/latest").write_text("step_00000001\n")
    write_teacher(teacher, 1)
    assert main(command("places", images, killed, *keys)) == 2
    assert "another file of that name" in capsys.readouterr().err
    plain = ["finetune", "--config", "places", f"encoder={run}", f"run={tmp_path / 'tuned'}"]
    shutil.copy(moved, teacher)
    assert (
        main(
            [
                *plain,
                f"data.train={tmp_path}/a/instances.json",
                f"data.val={tmp_path}/a/instances.json",
            ]
        )
        == 2
    )
    assert "model.decoder_weights=false" in capsys.readouterr().err
