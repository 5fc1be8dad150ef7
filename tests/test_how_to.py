"""The lines of docs/how_to.md run as they stand there."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.generate import GenerateConfig
from genseg.alpha.model import ALPHA_NAME, AlphaModel, Look, save_alpha
from genseg.nn.encoder import Encoder, EncoderConfig

HOW_TO = (Path(__file__).parents[1] / "docs" / "how_to.md").read_text()


@pytest.mark.filterwarnings("ignore")  # Ray's own, of every kind
def test_the_ray_recipe_gives_what_the_model_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="the recipe needs ray[data], which genseg does not")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig())
    look = Look((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 512, True)
    config = GenerateConfig(candidate=0, score=0, min_area=1)
    model = AlphaModel(encoder, AlphaDecoder(encoder, DecoderConfig()), look, config)
    (tmp_path / "runs/alpha").mkdir(parents=True)
    save_alpha(model, tmp_path / "runs/alpha" / ALPHA_NAME, {"encoder": {"name": "resnet18"}})
    (tmp_path / "FOLDER").mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (3, 40, 48, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "FOLDER" / f"{i}.png"), image[..., ::-1])
    (recipe,) = re.findall(r"```python\n(.*?)```", HOW_TO, re.S)
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        exec(compile(recipe, "how_to.md", "exec"), {"__name__": "__main__"})
    finally:
        ray.shutdown()
    rows = [json.loads(line) for file in (tmp_path / "found").glob("*.json") for line in file.read_text().splitlines()]
    found = {Path(row["file"]).stem: row["instances"] for row in rows}
    assert sorted(found) == ["0", "1", "2"]
    for i, image in enumerate(images):
        expected = model.instances(image)
        assert len(found[str(i)]) == len(expected) > 0
        assert [a["area"] for a in found[str(i)]] == [a.area for a in expected]
