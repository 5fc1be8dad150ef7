"""The lines of README and of the guides that train run as they stand there."""

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from small import ENCODER

from genseg.cli import main
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance

pytestmark = pytest.mark.usefixtures("few_composites")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = [DOCS / f"guides/{n}.md" for n in ("data", "pretraining", "alpha_maps", "fine_tuning")]
README = (ROOT / "README.md").read_text()
TEXT = "\n".join([README, *(file.read_text() for file in GUIDES)])
LITTLE = [f"encoder.name={ENCODER}", "batch_size=4", "data.workers=0"]
TINY = {
    "simclr": ["batch_size=4", "data.workers=0", "data.cache=0"],  # a ResNet-18, as others read it
    "moco": [*LITTLE, "data.cache=0", "method.splits=2"],
    "swav": [],
    "simmim": ["batch_size=4", "data.cache=0", "data.workers=0", "steps=1"],
    "distill": ["batch_size=4", "data.cache=0", "data.workers=0", "steps=1", "method.side=32"],
    "mask_rcnn": [
        f"architecture={ENCODER}",
        "steps=1",
        "batch_size=2",
        "augment.size=64",
        "model.width=16",
        "model.hidden=32",
        "data.workers=0",
        "threads=1",
        "checkpoint.every=1 steps",
        "validate.every=1 steps",
    ],
    "alpha": [
        *LITTLE,
        "steps=2",
        "alpha.compose.size=64",
        "alpha.side=64",
    ],
}


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf" *```{language}\n(.*?)```", text, re.S)


def commands(start: str) -> list[str]:
    return [
        line.strip()
        for block in blocks("bash")
        for line in block.splitlines()
        if line.strip().startswith(start)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with FOLDER/ full of images, their labels, and the repository's configs/."""
    place = tmp_path_factory.mktemp("readme")
    (place / "configs").symlink_to(ROOT / "configs")
    (place / "FOLDER").mkdir()
    rng = np.random.default_rng(0)
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    content["categories"] = [{"id": 1, "name": "square"}]
    for i in range(8):
        pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        pixels[20:40, 10 + i : 30 + i] += 150
        cv2.imwrite(str(place / "FOLDER" / f"{i}.jpg"), pixels)
        content["images"].append(
            {"id": i, "file_name": f"FOLDER/{i}.jpg", "height": 64, "width": 64}
        )
        square = Instance(np.full((20, 20), 255, np.uint8), 20, 10 + i)
        content["annotations"].append(
            annotation(square, number=i + 1, image=i, height=64, width=64)
        )
    (place / "LABELS.json").write_text(json.dumps(content))
    return place


def test_the_commands_and_the_lines_of_python(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    found = [line for line in commands("genseg ") if not re.search(r"--out proposals\b", line)]
    found = [line for line in found if "proposals/" not in line]
    assert len(found) == 25
    for line in found:
        words = shlex.split(line)[1:]
        words = ["epochs=1" if w == "epochs=50" else w for w in words]
        words = [w.replace("teacher=FILE", "teacher=runs/mine") for w in words]
        tiny = TINY[words[words.index("--config") + 1]] if "--config" in words else []
        if words[0] == "try":
            tiny = TINY["alpha"]
        if words[0] == "compare":  # scores and saves at the end alone
            tiny = [key for key in tiny if not key.startswith(("checkpoint.", "validate."))]
        assert main([*words, *tiny]) == 0, line
    said = capsys.readouterr().out
    for row in ("1: runs/alpha: ", "mask AP50", "TP/(TP+FP+FN) at IoU 0.75", "otsu      "):
        assert row in said
    assert "next, the full run on your images" in said
    assert sorted(
        f.name for f in (place / "found").iterdir() if f.is_file() and f.name != ".lock"
    ) == ["env.json", "grid.png", "instances.json", "report.html", "settings.json"]
    for python in [*blocks("python"), *blocks("python", (DOCS / "guides/python.md").read_text())]:
        exec(compile(python, "README.md", "exec"), {})
    assert (place / "found/0.png").is_file() and (place / "found/0.json").is_file()


def test_what_the_guide_says_a_run_leaves_is_left(place: Path) -> None:
    """After the test above."""
    (tree,) = re.findall(r"```\n(runs/mine/\n.*?)```", TEXT, re.S)
    names = {a or b for a, b in re.findall(r"^  ([\w.]+/?)|  (\w+\.\w+)(?= {2})", tree, re.M)}
    assert names >= {"alpha.safetensors", "banks/", "checkpoints/", "env.json"} and len(names) == 12
    for name in names - {"broken.txt"}:
        run = "runs/simmim" if name == "predicted/" else "runs/alpha"
        assert (place / run / name).exists(), name


def test_the_launch_commands_name_files_and_keys_that_exist() -> None:
    """That two processes train is tested in tools/test_launch.py; here, that the README says the
    same words."""
    found = [
        c
        for start in ("accelerate", "torchrun", "ACCELERATE_USE_CPU=true accelerate")
        for c in commands(start)
    ]
    assert len(found) == 3
    for line in found:
        for name in re.findall(r"(?:tools|configs)/\S+", line):
            assert (ROOT / name).is_file(), name
    assert "torchrun --nproc_per_node 2 tools/pretrain.py" in TEXT
    assert (
        "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 tools/pretrain.py"
        in TEXT
    )


def test_the_first_screen_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 100
    assert len(README.split("```bash")[0].split()) <= 80  # the first command comes soon
    prose = re.sub(r"(?s)```.*?```|^\|.*?$|^#.*?$", " ", README, flags=re.M)
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`", "]", prose)
    sentences = re.split(r"(?<=[.?!:;])\s+|\n\n+|\n\* ", prose)
    assert [s for s in sentences if len(s.split()) > 25] == []


def test_links_lead_somewhere() -> None:
    for file in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", file.read_text()):
            if not target.startswith("http"):
                assert (file.parent / target).exists(), f"{file}: {target}"
