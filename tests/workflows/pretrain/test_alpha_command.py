"""The alpha task from the command line: slots, dry runs, and what a user may get wrong."""

import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composed import COUNT, KINDS, command, draw_images

from genseg.cli import main
from genseg.data.composites.bank import load_bank
from genseg.runs.metrics import read_metrics
from genseg.workflows.pretrain import dry_run, rounds

pytestmark = pytest.mark.usefixtures("few_composites")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def test_slots_train_and_generate_the_same_every_time(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    usual = [
        w for w in command("places", images, run, "steps=2") if not w.startswith("alpha.rounds")
    ]
    slots = ["alpha.name=slots", "alpha.slots.count=4", "alpha.slots.width=16"]
    assert main([*usual, *slots]) == 0
    assert "reconstruction" in read_metrics(run / "metrics.jsonl")[-1]
    assert [len(load_bank(f)) for f in (run / "banks").iterdir()] == [0]
    found = []
    for out in (tmp_path / "one", tmp_path / "two"):
        assert main(["generate", str(run), str(images), "--out", str(out)]) == 0
        found.append((out / "instances.json").read_bytes())
    assert found[0] == found[1]
    assert len(json.loads(found[0])["images"]) == COUNT and json.loads(found[0])["annotations"]
    capsys.readouterr()
    assert main([*usual, *slots, "alpha.rounds.count=2"]) == 2
    assert "slots take no proposals, so there is one round" in capsys.readouterr().err


def test_a_few_large_images_are_enough_for_the_alpha_task_alone(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "few").mkdir()
    for name in ("0.png", "1.png"):
        shutil.copy(images / name, tmp_path / "few")
    for run in ("one", "two"):
        assert (
            main(
                command(
                    "places", tmp_path / "few", tmp_path / run, "steps=2", "alpha.rounds.count=1"
                )
            )
            == 0
        )
        said = capsys.readouterr().err
        assert (
            "note: 2 images for a batch of 4: they are drawn again, for new composites each time"
            in said
        )
    assert len({(tmp_path / run / "alpha.safetensors").read_bytes() for run in ("one", "two")}) == 1
    assert [
        row["epoch"] for row in read_metrics(tmp_path / "one" / "metrics.jsonl") if "epoch" in row
    ] == [1, 2]
    assert main(command("byol", tmp_path / "few", tmp_path / "byol")) == 2
    assert "2 images are fewer than one batch of 4; use batch_size=2" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_leaves_nothing(
    kind: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command(kind, images, tmp_path / "run"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "memory" in said and "so about" in said and f"{COUNT + 1} images" in said
    assert ("byol" in said) == (kind == "byol") and "64 px" in said
    assert "proposals" in said
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_proposals_once(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They were a part of each step: 42 hours were told in place of 37 minutes."""
    made, late = rounds.first_bank, [0.0]

    def slow(*given: Any, **named: Any) -> Any:
        late[0] += 6
        return made(*given, **named)

    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + late[0])
    monkeypatch.setattr(dry_run, "time", clock)
    monkeypatch.setattr(rounds, "first_bank", slow)
    assert main([*command("places", images, tmp_path / "run"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    step, proposals = (
        re.search(pattern, said)
        for pattern in (r"time +([0-9.]+) s a step", r"proposals ([0-9]+)s")
    )
    assert step and float(step[1]) < 3 and proposals and int(proposals[1]) >= 6


def test_the_time_of_a_step_is_the_median_of_those_after_the_first() -> None:
    assert dry_run._time([10.0, 1.0, 5.0, 1.0], 101).startswith(
        "1.00 s a step, so about 1m50s (median of steps 2 to 4; the f"
    )
    assert dry_run._time([10.0], 1) == "10.00 s a step, so about 10s"


def test_print_config_is_a_config(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command("byol", images, tmp_path / "run"), "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "size: 64" in text and "proposals: tree" in text and "name: places" in text
    (tmp_path / "all.yaml").write_text(text)
    assert main(["pretrain", "--config", str(tmp_path / "all.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["alpha.proposals=trees"],
            "wanted tree | otsu | felzenszwalb | slic | iem | blobs | centre | cut; did you mean",
        ),
        (["alpha.proposal=tree"], "did you mean alpha.proposals?"),
        (["alpha.compose.siz=64"], "did you mean alpha.compose.size?"),
        (["alpha.slots.count=4"], "this key belongs to slots"),
        (["alpha.name=place"], "places"),
        (["alpha.share=0"], "share=0: it has to be above 0"),
        (["alpha.share=1.5"], "share=1.5: use 0 to 1"),
        (["alpha.rounds.count=0"], "count=0: use 1 or more"),
        (
            ["alpha.compose.blends=[soft]"],
            'alpha.compose.blends: got ["soft"] (command line), wanted',
        ),
        (["views={more: {size: 32}}"], "method.name=none has no use for views"),
    ],
)
def test_a_users_mistake_ends_with_code_2_and_the_remedy(
    words: list[str],
    complaint: str,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command("places", images, tmp_path / "run", *words)) == 2
    said = capsys.readouterr().err
    assert complaint in said and "Traceback" not in said and not (tmp_path / "run").exists()


def test_nothing_to_train_is_said(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.yaml").write_text("method: {name: none}\nviews: {}\n")
    usual = [
        "pretrain",
        "--config",
        str(tmp_path / "none.yaml"),
        f"data.path={images}",
        f"run={tmp_path / 'run'}",
    ]
    assert main([*usual, "steps=1"]) == 2
    assert (
        "method.name and alpha.name are both none: there is nothing to train"
        in capsys.readouterr().err
    )
