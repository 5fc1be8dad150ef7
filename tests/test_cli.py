"""The commands as a user types them: what they say, and with which exit code."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import no_file_above
from noise import write_classes

from genseg.cli import main
from genseg.core.schedule import ema_momentum
from genseg.runs.metrics import read_metrics

ROOT = Path(__file__).parents[1]
BYOL = ["pretrain", "--config", str(ROOT / "configs/pretrain/byol.yaml")]
TINY = [
    "batch_size=4",
    "views.first.size=32",
    "views.second.size=32",
    "method.hidden=16",
    "data.workers=0",
    "data.cache=0",
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("images"), 12, ".jpg")


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch."""
    run = tmp_path_factory.mktemp("runs") / "byol"
    assert (
        main([*BYOL, *TINY, f"data.path={images}", f"run={run}", "epochs=1", "log_every=1 steps"])
        == 0
    )
    return run


def test_pretrain_leaves_the_run_directory_that_the_readme_shows(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "config.yaml",
        "env.json",
        "metrics.jsonl",
        "checkpoints",
        "encoder.safetensors",
        "timm",
    }
    assert json.loads((run / "env.json").read_text())["processes"] == 1
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert {
        "loss",
        "lr",
        "tau",
        "spread",
        "rank",
        "images_per_second",
        "data_wait",
        "eta_seconds",
    } <= rows[1].keys()
    assert {"knn_top1", "knn_balanced"} <= rows[-1].keys()
    # the recipe's momentum; three updates
    applied = [ema_momentum(update / 3, 0.99) for update in range(3)]
    assert [row["tau"] for row in rows if "tau" in row] == pytest.approx(applied, abs=1e-9)


def test_export_and_scan(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["export", str(run), "--out", str(tmp_path / "e.pth"), "--prefix", "backbone.body."])
        == 0
    )
    assert main(["export", str(run), "--out", str(tmp_path / "folder")]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "folder")]) == 0  # its own, again
    assert main(["export", str(run), "--out", str(tmp_path / "e.onnx")]) == 2
    assert main(["export", str(run), "--out", str(tmp_path / "other"), "--prefix", "body."]) == 2
    assert not (tmp_path / "other").exists()
    assert main(["scan", str(images)]) == 0
    said = capsys.readouterr()
    assert "--prefix is for state dicts" in said.err
    assert "120 tensors" in said.out and "12" in said.out
    assert "end it in .safetensors or .pth" in said.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text('{"mine": 1}')
    assert main(["export", str(run), "--out", str(tmp_path / "mine")]) == 2
    assert "holds config.json, not written by genseg" in capsys.readouterr().err
    assert main(["export", str(run), "--out", ""]) == 2
    assert "--out names neither a file nor a folder" in capsys.readouterr().err


def test_a_dry_run_tells_what_would_happen_and_leaves_nothing(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                *BYOL,
                *TINY,
                f"data.path={images}",
                f"run={tmp_path / 'run'}",
                "epochs=4",
                "--dry-run",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "12 steps of 4 images = 4.0 epochs" in said and "memory" in said and "so about" in said
    assert not (tmp_path / "run").exists()


def test_print_config_is_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BYOL, "data.path=x", "run=y", "steps=5", "--print-config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "all.yaml").write_text(text)
    assert "steps: 5" in text and "epochs: null" in text
    assert main(["pretrain", "--config", str(tmp_path / "all.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_weights_continue_and_what_did_not_match_is_said(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = [
        f"data.path={images}",
        f"run={tmp_path / 'more'}",
        "steps=1",
        f"encoder.weights={run}",
        "encoder.stem=small",
    ]
    assert main([*BYOL, *TINY, *more]) == 0
    assert "1 misshapen (conv1.weight)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["optim.lr=1"], "did you mean optimizer.lr?"),
        (["method.queue=1"], "this key belongs to moco, swav"),
        (["optimizer.lr=fast"], 'optimizer.lr: got "fast"'),
        (["epochs=1", "steps=2"], "epochs=1 and steps=2"),
        (
            ["optimizer.warmup=5"],
            "optimizer: warmup=5: write a number and epochs, steps, images or percent, such as",
        ),
        (["log_every=1.2.3 steps"], "log_every=1.2.3 steps: write a number"),
        (["checkpoint.every=often"], "checkpoint: every=often: write a number"),
        (["probe.every=often"], "probe: every=often: write a number"),
        (["data.path=/nowhere/at/all"], "/nowhere/at/all does not exist"),
        (["batch_size=999"], "12 images are fewer than one batch of 999"),
        (["accumulate=4", "batch_size=6"], "use batch_size=8"),
        (["precision=fp8"], 'precision: got "fp8" (command line), wanted auto | no | bf16 | fp16'),
        (["precision=fp16"], "needs a GPU"),
        (["views.first.count=0"], "compares two views of the largest size"),
        (
            ["encoder.name=resnet17"],
            "encoder.name=resnet17: there is no such encoder; did you mean resnet1",
        ),
        (["encoder.weights=/nowhere/e.safetensors"], "there is no file /nowhere/e.safetensors"),
        (["colour_on=gpu"], "wanted cpu | device"),
        (["optimizer.name=adam"], "wanted sgd | adamw | lars; did you mean adamw?"),
        (["optimizer.trust=0.1"], "trust has no effect with name=adamw"),
        (["views.first.hue=0.7"], "hue=0.7: use 0 to 0.5"),
        (["views.small.count=2"], "? views.small={count: VALUE, ...} adds small"),
        (["run=/dev/null/run"], "cannot write there"),
        (["accumulate=0"], "accumulate=0: use 1 or more"),
        (["method.dim=0"], "dim=0: use 1 or more"),
        (["views.first.size=0"], "size=0: use 8 or more"),
        (["data.std=[0,0,0]"], "std=0: it has to be above 0"),
        (["checkpoint.keep=0"], "keep=0: use 1 or more"),
        (["threads=-1"], "threads=-1: use 0 or more"),
        (["encoder.name=tu-resnet17"], "encoder.name=tu-resnet17"),
        (
            ["encoder.name=tu-resnet18", "encoder.weights=runs/typo"],
            "there is no file runs/typo; tu-resnet18 knows",
        ),
        (["--frsh"], "does not know --frsh"),
        (["seed=-1"], "seed=-1: use 0 or more"),
        (["epochs=.inf"], "epochs=inf: a run has to be longer than nothing, and to end"),
        (["data.max_broken=.nan"], "max_broken=nan: use 0"),
        (["views.first.flip=5"], "flip=5: use 0 to 1"),
        (["views.first.brightness=.nan"], "brightness=nan: use 0 to 10"),
        (["views.first.sigma=[2,1]"], "sigma=(2.0, 1.0) is (smallest, largest)"),
        (
            ["views.first.size=16", "views.second.size=16", "precision=bf16"],
            "views.first.size=16: layer4.0.conv1 of the encoder sees a single pixel",
        ),
        (["probe.train=/nowhere", "probe.test=/nowhere"], "probe.train=/nowhere does not exist"),
        (["probe.train=/dev"], "name both probe.train and probe.test"),
    ],
)
def test_a_users_mistake_ends_with_code_2_and_the_remedy(
    words: list[str],
    complaint: str,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys = {w.split("=")[0] for w in words}
    usual = [f"data.path={images}", f"run={tmp_path / 'run'}", *TINY]
    usual += [] if keys & {"epochs", "steps"} else ["steps=1"]
    arguments = [*BYOL, *(w for w in usual if w.split("=")[0] not in keys), *words]
    try:
        code = main(arguments)
    except SystemExit as exit_:  # argparse
        code = exit_.code
    said = capsys.readouterr().err
    assert code == 2
    assert complaint in said and "Traceback" not in said


LABELS = {
    "images": [{"id": 1, "file_name": "a/0.jpg", "height": 40, "width": 44}],
    "annotations": [{"id": 1, "image_id": 1, "segmentation": [[5, 5, 20, 5, 20, 20, 5, 20]]}],
}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            "generate nowhere IMAGES --out OUT",
            "there is no nowhere: give a run directory that has alpha.safetensors",
        ),
        ("generate trees IMAGES --out OUT", "Classical proposers: tree, otsu, "),
        # it has no alpha task
        ("generate RUN IMAGES --out OUT", "alpha.safetensors: give a run directory"),
        (
            "generate RUN/encoder.safetensors IMAGES --out OUT",
            "holds no alpha decoder that genseg has written",
        ),
        ("generate LABELS IMAGES --out OUT", "is not a safetensors file"),
        ("generate tree EMPTY --out OUT", "no image"),
        ("generate tree nowhere --out OUT", "nowhere does not exist; give a folder of images"),
        ("generate tree IMAGES --out LABELS", "File exists"),
        ("generate tree IMAGES --out LABELS/deep", "Not a directory"),
        (
            "generate tree IMAGES --out OUT --score 0.4",
            "--score is for runs; tree is a proposer with scores of its",
        ),
        ("generate RUN IMAGES --out OUT --score 7", "score=7: use 0 to 1"),
        ("generate RUN IMAGES --out OUT --min-area 0", "min_area=0: use 1 or more"),
        (
            "generate RUN IMAGES --out OUT --side 16",
            "side=16: use 0, which shrinks no image, or 32 or more",
        ),
        (
            "generate tree IMAGES --out OUT --num-shards 2 --shard-index 2",
            "--shard-index 2 of --num-shards 2",
        ),
        ("evaluate alpha tree --data nowhere.json", "nowhere.json cannot be read as a COCO json"),
        ("evaluate alpha tree --data EMPTY/none.json", "it has no images and no annotations"),
        ("evaluate alpha nowhere.json --data LABELS", "nowhere.json cannot be read as a COCO json"),
        ("evaluate alpha nowhere --data LABELS", "there is no nowhere: give a run directory"),
        ("evaluate alpha RUN --data LABELS", "alpha.safetensors: give a run directory"),
        ("evaluate alpha EMPTY/none.json --data LABELS", "it has no images"),
        ("evaluate beta", "invalid choice: 'beta'"),
        (
            "generate tree IMAGES --out IMAGES/found --cutouts",
            "the pictures that are written would count as images",
        ),
        ("evaluate alpha tree otsu tree --data LABELS", "tree is given twice; give it once"),
        ("evaluate alpha tree --data LABELS --out EMPTY", "is a folder; name a file in it"),
        ("evaluate alpha tree --data LABELS --alphas nowhere", "--alphas nowhere is no folder"),
        ("evaluate alpha tree --data LABELS --threshold nan", "threshold=nan: use 0 to 1"),
        ("convert LABELS --to labelstudio --out OUT.json --score nan", "score=nan: use 0 to 1"),
        (
            "export RUN --out RUN",
            "is a run directory (it has config.yaml), whose files would be overwritten",
        ),
        (
            "export RUN --out RUN/encoder.safetensors --prefix x.",
            "is the run's own encoder, and would be overwritten",
        ),
        ("scan ~nobodyhere/x", "~nobodyhere/x does not exist"),
        (f"scan {'a' * 300}", "File name too long"),
        (
            "visualize nowhere.json --images IMAGES --out OUT.png",
            "nowhere.json cannot be read as a COCO json",
        ),
        (
            "visualize EMPTY/none.json --images IMAGES --out OUT.png",
            "it has no images and no annotations",
        ),
        ("visualize LABELS --images EMPTY --out OUT.png", "give --images the folder of"),
        ("visualize LABELS --images IMAGES --out OUT.jpg", "pictures are PNG; end it in .png"),
        ("visualize LABELS --images IMAGES --out EMPTY/folder.png", "Is a directory"),
        ("visualize LABELS --images IMAGES --out OUT.png --columns 0", "columns=0: use 1 or more"),
        (
            "visualize LABELS --images IMAGES --out OUT.png --side 100000",
            "give a smaller --side or --count",
        ),
    ],
)
def test_a_mistake_with_instances_is_one_line_and_code_2(
    words: str,
    complaint: str,
    run: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    (tmp_path / "empty" / "folder.png").mkdir(parents=True)
    (tmp_path / "empty" / "none.json").write_text("{}")
    places = {"IMAGES": images, "RUN": run, "LABELS": "labels.json", "EMPTY": "empty", "OUT": "out"}
    for name, place in places.items():
        words = words.replace(name, str(place))
    try:
        code = main(words.split())
    except SystemExit as exit_:  # argparse
        code = exit_.code
    said = capsys.readouterr()
    assert code == 2 and not said.out
    lines = said.err.splitlines()
    assert complaint in lines[-1] and "Traceback" not in said.err
    assert len(lines) == 1 or lines[0].startswith("usage: ")
    assert not list(tmp_path.glob("out*"))


def test_an_empty_folder_and_too_many_broken_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    usual = [*BYOL, *TINY, f"data.path={folder}", f"run={tmp_path / 'run'}", "steps=3"]
    assert main(usual) == 2
    assert "no image" in capsys.readouterr().err.lower()
    for i in range(8):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((40, 40, 3), 20 * i, np.uint8))
    for i in range(6):  # three steps see four of them, at least
        (folder / f"broken{i}.png").write_bytes(b"\x89PNG nothing")
    assert main(usual) == 2
    assert "more than data.max_broken=0.01" in capsys.readouterr().err
    assert len((tmp_path / "run" / "broken.txt").read_text().splitlines()) >= 1


@pytest.mark.parametrize("cache", [0, 40])
def test_broken_images_are_counted_to_the_user(
    cache: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run, rng = tmp_path / "images", tmp_path / "run", np.random.default_rng(0)
    folder.mkdir()
    for i in range(11):
        cv2.imwrite(str(folder / f"{i:02}.png"), rng.integers(0, 255, (40, 44, 3), dtype=np.uint8))
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    usual = [
        *BYOL,
        *TINY[:-1],
        f"data.cache={cache}",
        "data.max_broken=0.1",
        f"data.path={folder}",
        f"run={run}",
    ]
    assert main([*usual, "epochs=1", "--dry-run"]) == 0
    said = capsys.readouterr()
    # in three steps of four
    assert ("broken: 1\n" if cache else "broken: 1 of the 12 looked at") in said.out
    assert "broken.txt" not in said.err
    assert main([*usual, "epochs=1"]) == 0
    said, told = capsys.readouterr(), f"1 image cannot be read: see {run / 'broken.txt'}"
    assert said.err.count(told) == 1 and said.out.count(told) == 1
    assert (run / "broken.txt").read_text().startswith("broken.png\t")


def test_a_loss_that_is_not_finite_stops_before_the_update(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert (
        main(
            [
                *BYOL,
                *TINY,
                f"data.path={images}",
                f"run={run}",
                "steps=9",
                "optimizer.lr=1e30",
                "precision=no",
            ]
        )
        == 1
    )
    said = capsys.readouterr().err
    assert "not finite, so no update was made" in said and "Lower optimizer.lr" in said


def test_a_full_disk_is_told_in_a_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with no_file_above(1_000_000):
        assert main([*BYOL, *TINY, f"data.path={images}", f"run={run}", "steps=1"]) == 1
    said = capsys.readouterr().err
    assert (
        "encoder.safetensors cannot be written: File too large; make room there"
        in said.splitlines()[-1]
    )
    assert (
        "Traceback" not in said
        and not list(run.glob("*.tmp"))
        and not (run / "encoder.safetensors").exists()
    )


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "folder"])
def test_an_export_goes_whole_to_the_disk_or_not_at_all(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_file_above(1_000_000):
        assert main(["export", str(run), "--out", str(tmp_path / name)]) == 1
    assert "cannot be written: File too large; make room there" in capsys.readouterr().err
    assert not [f for f in tmp_path.rglob("*") if f.is_file()]
    (tmp_path / "text").write_text("no weights")
    assert main(["export", str(tmp_path / "text"), "--out", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert (
        said.startswith("genseg export: ")
        and "text is not a safetensors file" in said
        and "Traceback" not in said
    )


@pytest.mark.parametrize("colour_on", ["cpu", "device"])
def test_both_photometric_backends_and_accumulation_train(
    colour_on: str, images: Path, tmp_path: Path
) -> None:
    more = [
        f"data.path={images}",
        f"run={tmp_path / 'run'}",
        "steps=2",
        f"colour_on={colour_on}",
        "accumulate=2",
    ]
    assert main([*BYOL, *TINY, *more, "tensorboard=true"]) == 0
    assert (tmp_path / "run" / "tensorboard").is_dir()


RECIPES = sorted(  # studies, which put recipes together, have a test of their own
    f.relative_to(ROOT).as_posix()
    for f in (ROOT / "configs").rglob("*.yaml")
    if f.parent.name != "study"
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_config(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the keys that its own command gives."""
    command = recipe.split("/")[1]
    option, needed = {
        "pretrain": ("--config", "data.path=FOLDER"),
        "energy": ("--shape", "ALPHA"),
        "finetune": ("--config", "data.train=TRAIN.json"),
    }[command]
    more = ["method.target.words=WORDS"] if "semantic" in recipe else []
    given = [option, str(ROOT / recipe), needed, "run=RUN", *more]
    assert main([command, *given, "--print-config"]) == 0
    assert "run: RUN" in capsys.readouterr().out


def test_no_recipe_leads_to_one(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", f"data.path={images}", f"run={tmp_path / 'run'}", "epochs=1"]) == 2
    assert "or start from a recipe by --config: alpha, byol, " in capsys.readouterr().err
    assert main(["finetune", "data.train=x.json", f"run={tmp_path / 'run'}", "epochs=1"]) == 2
    assert (
        "missing: model.name" in (said := capsys.readouterr().err)
        and "by --config: deeplabv3plus, " in said
    )
