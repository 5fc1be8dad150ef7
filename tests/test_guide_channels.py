"""The commands of docs/guides/channels.md, on OME-TIFFs made here."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from small import ENCODER

from genseg.cli import main

TEXT = (Path(__file__).parents[1] / "docs/guides/channels.md").read_text()
SMALL = [
    *("alpha.side=64", "alpha.compose.size=64", "alpha.proposals=blobs", "alpha.compose.sure=0"),
    *("alpha.rounds.count=1", "alpha.compose.pasted=[1,2]", "probe.every=0 steps"),
    *(f"encoder.name={ENCODER}", "images=null", "steps=2", "batch_size=4", "threads=1"),
    *("data.workers=0", "alpha.decoder.channels=[16,16,8,8]", "alpha.decoder.tower=8"),
    *("alpha.generate.score=0", "alpha.generate.candidate=0", "alpha.generate.min_area=1"),
]


def write(file: Path, axes: str, sizes: tuple[int, ...], seed: int) -> None:
    """Squares on noise, 12 bits in 16, of two stains."""
    rng = np.random.default_rng(seed)
    x = rng.integers(100, 300, (*sizes, 64, 64), dtype=np.uint16)
    x[..., 10:26, 12:28], x[..., 36:50, 34:52] = 2000, 3500
    names = {"Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(file, x, metadata={"axes": axes, **names})


@pytest.mark.usefixtures("few_composites")
def test_from_a_folder_of_ome_tiffs_to_a_table_and_polygons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SLIDES", "SERIES"):
        Path(name).mkdir()
    for n in range(5):
        write(Path(f"SLIDES/{n}.ome.tif"), "ZCYX", (3, 2), n)
    write(Path("SERIES/cells.ome.tif"), "TZCYX", (4, 3, 2), 9)
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 7 and all(line.startswith("genseg ") for line in lines)
    for line in lines:
        words = shlex.split(line)[1:]
        assert main([*words, *(SMALL if words[0] == "pretrain" else [])]) == 0, line
    said = capsys.readouterr().out
    assert "2 channels (1 DAPI, 2 GFP) x 3 z (axes ZCYX) of 16 bits" in " ".join(said.split())
    with open("found/table.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows and {"dapi_mean", "gfp_mean", "area_um2"} <= rows[0].keys()
    assert all(float(row["area_um2"]) == 0.25 * float(row["area_px"]) for row in rows)
    assert len(list(Path("qupath").glob("*.geojson"))) == 5
    content = json.loads(Path("times/instances.json").read_text())
    assert [image["page"] for image in content["images"]] == [1, 2, 3, 4]
    with open("times/table.csv") as file:
        images = {row["image"] for row in csv.DictReader(file)}
    assert "cells.ome.tif (image 3)" in images
