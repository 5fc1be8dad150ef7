"""genseg try: a short run, what it shows, what it advises; and goes on when it is asked again."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import ENCODER

import genseg
from genseg import tryout
from genseg.cli import main
from genseg.commands.pretrain import folder_first
from genseg.config import load
from genseg.core.names import CONFIG_NAME
from genseg.core.paths import name_of
from genseg.recipes import recipe
from genseg.tryout import CLASSICAL, Seen, advice, behind
from genseg.workflows.evaluate.alpha import AlphaScores
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig

TINY = {
    **{"batch_size": 4, "data.workers": 0, "threads": 1},
    **{"alpha.compose.size": 64, "alpha.side": 64, "encoder.name": ENCODER},
}
KEYS = [f"{key}={value}" for key, value in TINY.items()]
WELL = Seen(images=20, empty=2, widths=(20.0, 60.0), agreement=0.8, shrunk=True)


pytestmark = pytest.mark.usefixtures("few_composites")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial") / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(6):
        pixels = rng.integers(0, 60, (64, 64, 3), np.uint8)
        for y, x in rng.integers(4, 48, (5, 2)):
            pixels[y : y + 12, x : x + 12] += 150
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


def test_a_trial_leaves_pictures_and_says_what_comes_next(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = genseg.trial(photos, steps=2, **TINY)
    run = Path("runs/try-photos")
    assert result.pretrained.complete and result.pretrained.run == run and result.scores is None
    assert result.generated is not None and result.generated.images == 6
    assert result.seen is not None and result.seen.images == 6
    for name in ("sheet.png", "report.html", "found/report.html", "found/instances.json"):
        assert (run / name).is_file(), name
    assert f"genseg generate {run}-full {photos} --out {run}-full/found" in result.text()
    assert "this run saw 8 images, a full one sees 16,000" in result.text()
    assert main(["try", str(photos), "steps=2", *KEYS]) == 0  # goes on: nothing is left to train
    assert main(["try", str(photos), "--minutes", "0"]) == 2
    assert main(["try", str(tmp_path / "nowhere"), "steps=2"]) == 2


def test_the_length_is_what_the_machine_does_and_stays_when_it_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the config alone: what it says is what the test above trains."""
    run = tmp_path / "run"

    def images(minutes: float, *more: str) -> int | None:
        return tryout._config(str(photos), str(run), minutes, [*KEYS, *more]).images

    assert images(0.001) == tryout.SHORTEST and images(1e6) == tryout.LONGEST
    monkeypatch.setattr("genseg.tryout.SHORTEST", 100)
    assert images(0.001) == 100
    assert images(0.001, "steps=2") is None
    run.mkdir()
    (run / CONFIG_NAME).write_text("images: 300\n")  # begun by a machine three times as fast
    assert images(60) == 300


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"empty": 10}, ("nothing is found in 10 of 20 images", "alpha.proposals=blobs")),
        ({"agreement": 0.2}, ("agree on 20 % of the instances", "train longer")),
        ({"widths": (4.0, 9.0)}, ("narrower than 4 px", "alpha.side=1024")),
        ({"widths": (4.0, 9.0), "shrunk": False}, ()),
        ({"widths": (90.0, 200.0)}, ("largest instances are 200 px", "alpha.side=256")),
        ({"widths": None, "agreement": None, "empty": 20}, ("nothing is found in 20",)),
    ],
)
def test_advice_follows_from_what_was_seen(
    changes: dict[str, object], words: tuple[str, ...]
) -> None:
    keys = ["data.path=photos", "run=runs/x"]
    file = recipe(Path("alpha"), "pretrain")
    config = load(PretrainConfig, file=file, overrides=keys, choices=CHOICES)
    said = advice(replace(WELL, **changes), config)
    assert bool(said) == bool(words) and all(word in " ".join(said) for word in words)


def test_a_classical_method_that_is_better_is_named() -> None:
    def scores(*values: float) -> AlphaScores:
        names = ("run", *CLASSICAL)
        return AlphaScores(
            {n: {"all": {"mask AP": v}} for n, v in zip(names, values, strict=True)}, ()
        )

    (said,) = behind(scores(0.4, 0.3, 0.5))
    assert said == "otsu has the better mask AP on these labels (0.500, 0.400): train longer"
    assert behind(scores(0.5, 0.3, 0.5)) == behind(scores(math.nan, 0.3, 0.5)) == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, ["photos"]), (Path("alpha"), ["data.path=photos", "run=runs/photos"])),
        (
            (None, ["a/b/", "run=x", "steps=3"]),
            (Path("alpha"), ["data.path=a/b/", "run=x", "steps=3"]),
        ),
        ((Path("moco"), ["photos"]), (Path("moco"), ["data.path=photos", "run=runs/photos"])),
        ((None, ["data.path=a"]), (None, ["data.path=a"])),
        ((None, ["a", "b"]), (None, ["a", "b"])),
    ],
)
def test_a_word_without_a_key_is_the_folder(given: tuple, expected: tuple) -> None:  # type: ignore[type-arg]
    assert folder_first(*given) == expected


def test_a_run_is_named_after_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [name_of(f) for f in ("embedded:nuclei/train", "photos/", "a/list.txt", ".")] == [
        *("nuclei-train", "photos", "list", tmp_path.name)
    ]
