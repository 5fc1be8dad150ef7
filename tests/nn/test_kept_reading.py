"""Runs that were trained to read images differently, one beside the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genseg
from genseg.core.reading import Reading, current, reading
from genseg.nn.encoder import Encoder, EncoderConfig
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.nn.kept_reading import reading_of, reads_as

TINY = EncoderConfig("tu-test_resnet")
ONE = Reading("1", ranges=((0.0, 9.0),))
TWO = Reading("2", "max", ((5.0, 7.0),))
WORDS = {"one": ONE, "two": TWO, "plain": Reading()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run directories of one channel, of another, and of red, green and blue."""
    place, made = tmp_path_factory.mktemp("runs"), {}
    torch.manual_seed(0)
    for name, words in WORDS.items():
        config = EncoderConfig(TINY.name, in_channels=words.inputs)
        look = (0.5,) * words.inputs
        facts = EncoderFacts(config, "byol", look, look, size=32, reading=words)
        made[name] = place / name
        made[name].mkdir()
        save_encoder(Encoder(config), made[name] / "encoder.safetensors", facts)
    return made


@reads_as("run")
def read_by(run: Path) -> Reading:
    return current()


@reads_as("runs")
def read_by_each(runs: Sequence[Path]) -> list[Reading]:
    return [read_by(run) for run in runs]


def test_each_run_reads_as_it_was_trained(runs: dict[str, Path]) -> None:
    for names in (("one", "two"), ("two", "one"), ("plain", "two"), ("two", "plain", "one")):
        found = read_by_each([runs[name] for name in names])
        assert found == [WORDS[name] for name in names], names
    # what keeps nothing reads as the first run that says something
    assert reading_of(Path("otsu")) is None
    assert read_by_each([Path("otsu"), runs["plain"], runs["two"]]) == [TWO, Reading(), TWO]
    assert current() == Reading()


def test_what_is_said_goes_before_all_runs(runs: dict[str, Path]) -> None:
    with reading(Reading("2")):
        one, two = read_by_each([runs["one"], runs["two"]])
        assert one == Reading("2", ranges=ONE.ranges) and two == TWO
        assert current(Reading("3", "mean")) == Reading("2", "mean")


def test_a_loaded_model_reads_as_its_own_run(runs: dict[str, Path], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([np.full((40, 40), v, np.float32) for v in (3, 6)]))

    @reads_as("run")
    def seen(run: Path, model: genseg.Model) -> int:
        return int(model._pixels(tmp_path / "x.npy").max())

    assert seen(runs["two"], genseg.load(runs["one"])) == 85  # 3 of 0 to 9


def test_runs_that_share_images_have_to_read_them_alike(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for n in range(3):
            Image.new("RGB", (40, 40), (n, 9, 9)).save(tmp_path / name / f"{n}.png")
    pair = [runs["plain"], runs["two"]]
    wrong = r"plain reads red, green and blue, and .*two data.channels=2 data.pages=max data.range"
    with pytest.raises(ValueError, match=wrong):
        genseg.evaluate_representation(pair, tmp_path)
    with pytest.raises(ValueError, match=wrong):
        genseg.probe(pair, train=tmp_path, test=tmp_path)
