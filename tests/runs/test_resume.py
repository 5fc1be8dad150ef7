"""A run that is killed again and again ends with the bytes of one that was left alone."""

import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from noise import write_classes
from processes import CONTEXT
from small import ENCODER

from genseg.cli import main
from genseg.runs.checkpoint import load_latest
from genseg.runs.metrics import TIMING, Row, read_metrics
from genseg.workflows.pretrain.session import PretrainSession

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_classes(root, 18, ".png")
    (root / "a" / "broken.png").write_bytes(b"no image")
    return root


def command(images: Path, run: Path, *more: str) -> list[str]:
    return [
        "pretrain",
        "--config",
        str(ROOT / "configs/pretrain/moco.yaml"),
        f"data.path={images}",
        f"run={run}",
        "steps=10",
        "batch_size=4",
        f"encoder.name={ENCODER}",
        "data.cache=32",
        "data.max_broken=0.1",
        "log_every=1 steps",
        "threads=1",
        "checkpoint.every=2 steps",
        "probe.every=5 steps",
        "method.queue=10",
        "method.splits=2",
        "method.dim=16",
        "views.both.size=32",
        *more,
    ]


def train_until(step: int, arguments: list[str]) -> None:
    """For a process of its own: the command, killed once a step is logged; or just before that, if
    the number is negative. 0: undisturbed."""
    measured = PretrainSession.measured

    def measured_and_die(session: PretrainSession, at: int, *rest: object) -> None:
        if at != -step:
            measured(session, at, *rest)
        if at == abs(step):
            os.kill(os.getpid(), signal.SIGKILL)

    PretrainSession.measured = measured_and_die
    os._exit(main(arguments))


def run_until(step: int, arguments: list[str]) -> None:
    process = CONTEXT.Process(target=train_until, args=(step, arguments))
    process.start()
    process.join(300)
    assert process.exitcode == (-signal.SIGKILL if step else 0)


def steps_made(run: Path) -> int:
    file = run / "metrics.jsonl"
    rows = read_metrics(file) if file.exists() else []
    return int(rows[-1]["step"]) if rows else 0


def without_timing(run: Path) -> list[Row]:
    return [
        {k: v for k, v in row.items() if k not in TIMING}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def test_a_run_killed_at_random_steps_ends_as_an_undisturbed_one(
    images: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_until(0, command(images, whole))
    draw = random.Random(0)
    for workers, sign in ((0, 1), (2, -1), (1, 1)):
        step = steps_made(broken) + draw.randint(2, 3)
        run_until(sign * step, command(images, broken, f"data.workers={workers}"))
    run_until(0, command(images, broken, "data.workers=2"))
    (one, state), (two, again) = load_latest(whole), load_latest(broken)
    assert state["step"] == again["step"] == 10
    assert one.keys() == two.keys()
    assert any("queue" in k for k in one) and any("optimizer" in k for k in one)
    for name in one:
        assert one[name].equal(two[name]), name
    assert without_timing(whole) == without_timing(broken)
    assert (whole / "encoder.safetensors").read_bytes() == (
        broken / "encoder.safetensors"
    ).read_bytes()
    assert (whole / "broken.txt").read_text() == (broken / "broken.txt").read_text()
    assert (whole / "broken.txt").read_text().startswith("a/broken.png\t")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_going_on_is_exact_with_every_optimizer(
    optimizer: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with accumulated passes, after an interrupt instead of a kill."""
    more = [
        f"optimizer.name={optimizer}",
        "accumulate=2",
        "batch_size=8",
        "checkpoint.every=2 steps",
        "data.workers=0",
    ]
    usual = [
        a
        for a in command(images, tmp_path)
        if not a.startswith(("run=", "batch_size=", "checkpoint", "steps="))
    ]
    one, two = [[*usual, *more, f"run={tmp_path / name}", "steps=3"] for name in ("one", "two")]
    assert main(one) == 0
    measured = PretrainSession.measured

    def then_interrupt(session: PretrainSession, step: int, *rest: object) -> None:
        measured(session, step, *rest)
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainSession, "measured", then_interrupt)
        assert main(two) == 130
    assert steps_made(tmp_path / "two") == 2
    assert main(two) == 0
    (a, _), (b, _) = load_latest(tmp_path / "one"), load_latest(tmp_path / "two")
    assert [name for name in a if not a[name].equal(b[name])] == []


def test_an_interrupt_at_a_checkpoint_leaves_an_alpha_decoder(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = PretrainSession.measured

    def then_interrupt(session: PretrainSession, step: int, *rest: object) -> None:
        measured(session, step, *rest)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PretrainSession, "measured", then_interrupt)
    alpha = [
        "alpha.side=64",
        "alpha.compose.size=64",
        "alpha.decoder.channels=[16,16,8,8]",
        "alpha.decoder.tower=8",
    ]
    usual = [
        "steps=4",
        "images=null",
        "batch_size=4",
        "data.max_broken=0.1",
        "data.workers=0",
        "threads=1",
        *alpha,
    ]
    recipe = str(ROOT / "configs/pretrain/alpha.yaml")
    run = tmp_path / "run"
    keys = [f"data.path={images}", f"run={run}", "checkpoint.every=1 steps", *usual]
    assert main(["pretrain", "--config", recipe, *keys]) == 130
    assert (run / "alpha.safetensors").is_file()


def test_a_finished_run_is_left_as_it_is(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = command(images, run, "steps=2")
    arguments.remove("steps=10")
    assert main(arguments) == 0
    before = {f: f.stat().st_mtime_ns for f in run.rglob("*.safetensors")}
    assert main(arguments) == 0
    assert {f: f.stat().st_mtime_ns for f in run.rglob("*.safetensors")} == before


def test_another_config_shows_the_difference_and_stops_until_fresh(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = [*command(images, run), "checkpoint.keep=1"]
    arguments[arguments.index("steps=10")] = "steps=2"
    assert main(arguments) == 0
    assert main([*arguments, "optimizer.lr=0.5"]) == 2
    said = capsys.readouterr().err
    assert "optimizer.lr: 0.001 -> 0.5" in said and "--fresh" in said and "Traceback" not in said
    (run / "mine.txt").write_text("not genseg's")
    assert main([*arguments, "optimizer.lr=0.5", "--fresh"]) == 0
    assert "lr: 0.5" in (run / "config.yaml").read_text()
    assert (run / "mine.txt").exists()


def test_what_was_learnt_is_not_written_over_where_checkpoints_are_gone(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    again = command(images, copy)
    assert main(again) == 0
    shutil.rmtree(copy / "checkpoints")
    before = {f.name: f.read_bytes() for f in copy.iterdir() if f.is_file() and f.name != ".lock"}
    assert main(again) == 2
    assert "encoder.safetensors and no checkpoints/ to go on from" in capsys.readouterr().err
    assert {name: (copy / name).read_bytes() for name in before} == before
    assert main([*again, "--fresh"]) == 0


def test_a_run_goes_on_below_its_images_without_its_weights_file_and_says_what_has_changed(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "images"
    shutil.copytree(images, root)
    first, run = tmp_path / "first", root / "runs" / "mine"
    few = [a if a != "steps=10" else "steps=1" for a in command(root, first)]
    assert main(few) == 0
    mine = [a if not a.startswith("run=") else f"run={run}" for a in few]
    mine.append(f"encoder.weights={tmp_path}/start.safetensors")
    shutil.copy(first / "encoder.safetensors", tmp_path / "start.safetensors")
    assert main(mine) == 0
    (run / "snapshots").mkdir()
    shutil.copy(root / "a" / "0.png", run / "snapshots" / "0.png")  # as the alpha task leaves
    (tmp_path / "start.safetensors").unlink()
    capsys.readouterr()
    assert main([*mine, "checkpoint.keep=1"]) == 0
    assert "keep: 1\n" in (run / "config.yaml").read_text()
    assert main([a for a in mine if not a.startswith("encoder.weights")]) == 2
    assert "encoder.weights: " in capsys.readouterr().err
    assert main([a if not a.startswith("run=") else f"run={root}" for a in few]) == 2
    assert "is the folder of the images, and a run leaves pictures" in capsys.readouterr().err


def test_another_machine_s_precision_is_named_with_the_key_that_keeps_it(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = [a if a != "steps=10" else "steps=1" for a in command(images, tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("genseg.train.machine.torch.cpu._is_avx512_bf16_supported", lambda: True)
        assert main(few) == 0
    monkeypatch.setattr("genseg.train.machine.torch.cpu._is_avx512_bf16_supported", lambda: False)
    # told before what takes long
    monkeypatch.setattr("genseg.workflows.pretrain.parts.fingerprint", None)
    assert main(few) == 2
    said = capsys.readouterr().err
    assert "mixed_precision: bf16 -> no" in said and "add precision=bf16" in said
    monkeypatch.undo()
    monkeypatch.setattr("genseg.train.machine.torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert main([*few, "precision=bf16"]) == 0


def test_what_a_run_is_too_short_for_is_said(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [
        a if a != "steps=10" else "steps=1"
        for a in command(images, tmp_path / "run", "seed=20261126131008")
    ]
    assert main([*few, "optimizer.warmup=10 epochs"]) == 0  # a seed may be a date
    said = capsys.readouterr().err
    assert "2 classes by sub-folder or list, for kNN alone: a, b" in said
    assert (
        "note: optimizer.warmup=10 epochs: the learning rate never reaches its peak; the run is "
        "shorter" in said
    )
    assert main([a.replace("/run", "/even") for a in [*few, "optimizer.warmup=1 steps"]]) == 0
    assert "never reaches its peak" not in capsys.readouterr().err
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{images}/{n % 2 and 'b' or 'a'}/{n}.png\n" for n in range(18)))
    swav = [a for a in few if not a.startswith(("method.", "views.", "run=", "data.path"))]
    swav[2] = str(ROOT / "configs/pretrain/swav.yaml")
    more = [
        f"data.path={listed}",
        f"run={tmp_path / 'swav'}",
        "method.prototypes=12",
        "method.queue=8",
        "method.queue_start=15 epochs",
        "method.freeze=1 epochs",
        "views.large.size=32",
        "method.head=mlp_whiten",
        "views.small.count=0",
    ]
    assert main([*swav, *more]) == 0
    said = capsys.readouterr().err
    assert "no kNN while training: not every image lies in a sub-folder of its class" in said
    assert "the prototypes stand still to the end" in said and "the queue is never used" in said
    assert "whitening wants as many views in a pass as method.dim=64, or more; it has 8" in said


def test_no_image_that_can_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for n in range(4):
        (root / f"{n}.png").write_bytes(b"no image")
    usual = [
        a
        for a in command(root, tmp_path / "run")
        if not a.startswith(("data.cache", "data.max_broken"))
    ]
    broken = [*usual, "data.cache=0", "data.max_broken=1"]
    assert main([*broken, "data.workers=1"]) == 2
    said = capsys.readouterr().err
    assert "none of 4 images can be read; genseg scan says why of each" in said
    assert "Traceback" not in said and "worker" not in said
