"""The online probe: how many neighbours are asked."""

from pathlib import Path

import pytest
from PIL import Image

from genseg.data.images import ImageSource, list_images
from genseg.recipes.online_probe import ProbeConfig, build_probe


@pytest.mark.parametrize(("each", "k"), [((6, 6), 5), ((30, 30), 20), ((3, 9, 9), 8), ((1, 1), 1)])
def test_no_more_neighbours_vote_than_a_usual_class_has(each: tuple[int, ...], k: int, tmp_path: Path) -> None:
    """Of two classes of six images, eleven neighbours of one would always vote for the other class."""
    for name, count in enumerate(each):
        (tmp_path / str(name)).mkdir()
        for n in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / str(name) / f"{n}.png")
    probe = build_probe(ProbeConfig(), ImageSource(list_images(tmp_path), None))
    assert probe is not None and probe.k == k
