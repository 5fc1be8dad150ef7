"""The commands of docs/guides/large_images.md work as they stand there, on a small GeoTIFF."""

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from small import ENCODER

import genseg.data.regions.opened as opened
from genseg.alpha.model import AlphaModel
from genseg.cli import main
from genseg.data.instances.instance import Instance

GUIDE = (Path(__file__).parents[1] / "docs/guides/large_images.md").read_text()
KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
LITTLE = [
    *("steps=2", "images=null", "batch_size=4", "threads=1", "data.workers=0", "alpha.side=64"),
    *("alpha.compose.size=64", "alpha.compose.sure=0", "alpha.proposals=blobs"),
    *("alpha.rounds.count=1", "alpha.compose.pasted=[1,2]", f"encoder.name={ENCODER}"),
    *("alpha.decoder.channels=[16,16,8,8]", "alpha.decoder.tower=8"),
]


def bright(model: AlphaModel, x: np.ndarray) -> list[Instance]:
    """What a run of two steps cannot find."""
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats((x[..., 0] > 150).astype(np.uint8))
    return [
        Instance((pieces[t : t + h, a : a + w] == n).astype(np.uint8) * 255, t, a, 0.9)
        for n, (a, t, w, h, _) in enumerate(boxes.tolist())
        if n
    ]


@pytest.mark.usefixtures("few_composites")
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opened, "LARGE", 1000)
    monkeypatch.setattr(opened, "WINDOW", 64)
    monkeypatch.setattr(AlphaModel, "_tile", bright)
    x = np.random.default_rng(0).integers(0, 60, (192, 256, 3)).astype(np.uint8)
    for top in range(4, 180, 24):
        for left in range(4, 240, 30):
            x[top : top + 9, left : left + 12] = 220
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 5e6, 0.0), True),
        (34735, "H", len(KEYS), KEYS, True),
    ]
    tifffile.imwrite("MAP.tif", x, photometric="rgb", tile=(64, 64), extratags=tags, metadata=None)
    corners = [[0, 0], [128, 0], [128, 192], [0, 192], [0, 0]]
    Path("FIELD.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, re.S)[:2]
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 6 and all(line.startswith("genseg ") for line in lines)
    for line in lines:
        words = shlex.split(line)[1:]
        little = LITTLE if words[0] == "pretrain" else []
        assert main([w for w in words if w != "images=16000"] + little) == 0, line
    polygons = json.loads(Path("found/polygons/MAP.geojson").read_text())
    assert polygons["crs"]["properties"]["name"].endswith("::32632")
    first = polygons["features"][0]["geometry"]["coordinates"][0]
    assert all(5e5 <= px <= 5e5 + 128 and 5e6 - 96 <= py <= 5e6 for px, py in first)
    counts = {
        out: len(json.loads(Path(out, "instances.json").read_text())["annotations"])
        for out in ("found", "field", "coarse", "level")
    }
    assert counts["found"] == counts["level"] == 64 and counts["field"] == 32
    assert 0 < counts["coarse"] <= 64
    (back,) = re.findall(r"`(genseg convert found/polygons .*?)`", GUIDE)
    assert main(shlex.split(back)[1:]) == 0
    again = json.loads(Path("train.json").read_text())["annotations"]
    assert len(again) == counts["found"]
