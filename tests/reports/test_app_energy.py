"""What the live page says of an energy: of a click, and between two instances."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from app_runs import SMALL, write_run

from genseg.alpha.codes import Codes
from genseg.core.names import ALPHA_NAME, ENERGY_NAME
from genseg.energies.autoencoder import AutoencoderConfig
from genseg.energies.config import Denoising
from genseg.energies.maps import Maps
from genseg.energies.model import EnergyFacts, built, digest, save_energy
from genseg.reports import app_energy
from genseg.reports.app_energy import Ends, EnergyAnswers, with_energies, without_energies
from genseg.reports.app_seen import Seen, look
from genseg.workflows.generate.opened import AlphaRun, open_runs

PIXELS = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)


def write_energy(folder: Path, alpha: Path) -> Path:
    """Random weights."""
    torch.manual_seed(3)
    config = AutoencoderConfig(cells=8, hidden=16)
    folder.mkdir(parents=True)
    facts = EnergyFacts(Denoising(), config, SMALL, digest(alpha / ALPHA_NAME))
    save_energy(built(Denoising(), config, SMALL), folder / ENERGY_NAME, facts)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    run = write_run(tmp_path / "mine", 0)
    return run, write_energy(tmp_path / "mine-denoising", run)


def opened(runs: list[Path]) -> dict[str, object]:
    finders, energies = without_energies(runs)
    return dict(with_energies(open_runs(finders), finders, energies))


def test_an_energy_is_given_or_lies_beside_its_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    run, energy = runs
    for given in ([run], [run, energy]):
        (found,) = opened(given).values()
        assert isinstance(found, AlphaRun) and found.energy is not None
    other = write_run(tmp_path / "elsewhere/other", 1)
    (found,) = opened([other]).values()
    assert isinstance(found, AlphaRun) and found.energy is None
    with pytest.raises(ValueError, match="mine-denoising is an energy for none of these runs"):
        opened([other, energy])
    assert not EnergyAnswers({"other": found}).runs


def test_a_click_says_the_energy_and_sliders_lead_to_the_next_one(
    runs: tuple[Path, Path],
) -> None:
    (found,) = opened([runs[0]]).values()
    assert isinstance(found, AlphaRun) and found.energy is not None
    answers, seen = EnergyAnswers({"mine": found}), look(found, Seen("x.png", PIXELS))
    counted = seen.counted(0.0)
    first, second = counted[0], next(a for a in counted[1:] if not a.covers(*inside(counted[0])))

    def click(a: object, ends: Ends | None) -> tuple[Ends, str, np.ndarray, str]:
        y, x = inside(a)
        ends, said, picture, words = answers.clicked("mine", seen, ends, 0.0, 0.0, 0.0, (x, y))
        assert isinstance(ends, Ends)
        return ends, said, picture, words

    ends, said, picture, _ = click(first, None)
    assert "Click another one" in said and picture.shape[2] == 3
    # the energy is that of the model for the map that was clicked
    there = next(a for a in counted if a.covers(*inside(first)))
    whole = torch.from_numpy(there.paint(96, 128))[None].float() / 255
    alpha = torch.nn.functional.avg_pool2d(whole, 2)
    with torch.no_grad():
        energy = found.energy(ends.embeddings[None], Maps(alpha, torch.zeros(1, dtype=torch.long)))
    number = re.search(r"E = ([^,]+),", said)
    assert number is not None
    value = float(number[1].replace("\N{MINUS SIGN}", "-"))
    assert value == pytest.approx(float(energy), rel=6e-3, abs=1e-3)
    pair, said, start, _ = click(second, ends)
    assert "The sliders lead to it" in said and len(pair.codes.vector) == 2
    end, words = answers.walked("mine", pair, 1.0, 1.0)
    alone = {k: v[-1:] for k, v in asdict(pair.codes).items()}
    code = type(pair.codes)(**alone)
    drawn = found.energy.decode(pair.embeddings[None], code).sigmoid()
    expected = found.energy(pair.embeddings[None], Maps(drawn, code.image))
    value = float(words.split("E = ")[1].split(" ")[0].rstrip(".").replace("\N{MINUS SIGN}", "-"))
    assert value == pytest.approx(float(expected), rel=6e-3, abs=1e-3)
    assert end.shape == start.shape


def test_samples_are_drawn_at_the_place_and_the_lowest_energy_comes_first(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = opened([runs[0]]).values()
    assert isinstance(found, AlphaRun) and found.energy is not None
    answers, seen = EnergyAnswers({"mine": found}), look(found, Seen("x.png", PIXELS))
    assert answers.sampled("mine", seen, None, 0.0, 0.0) == (None, "Click an instance first.")
    y, x = inside(seen.counted(0.0)[0])
    ends, *_ = answers.clicked("mine", seen, None, 0.0, 0.0, 0.0, (x, y))
    told, codes = list[list[str]](), list[Codes]()
    decode = found.energy.decode
    monkeypatch.setattr(app_energy, "titled", lambda row, words, **how: told.append(words) or row)
    monkeypatch.setattr(found.energy, "decode", lambda e, c: codes.append(c) or decode(e, c))
    picture, words = answers.sampled("mine", seen, ends, 0.0, 0.0)
    assert "lowest energy first" in words and picture.shape[2] == 3
    drawn = codes[0]
    assert (drawn.place == ends.codes.place[0]).all() and len(drawn.vector) == 6
    alpha = decode(ends.embeddings[None], drawn).sigmoid()
    with torch.no_grad():
        energies = found.energy(ends.embeddings[None], Maps(alpha, drawn.image))
    said = [float(word.removeprefix("E = ")) for row in told for word in row]
    assert said == [pytest.approx(e, abs=6e-3) for e in sorted(energies.tolist())]
    # asked again, they are others; and of one instance alone they are its own
    answers.sampled("mine", seen, ends, 0.0, 0.0)
    assert not torch.equal(codes[-2].vector, drawn.vector)
    alone = replace(seen, found=seen.found[:1])
    assert "lower the score" in answers.sampled("mine", alone, ends, 0.0, 0.0)[1]


def inside(a: object) -> tuple[int, int]:
    """y and x of a pixel of an instance."""
    y, x = np.argwhere(a.mask)[0]  # type: ignore[attr-defined]
    return int(y) + a.top, int(x) + a.left  # type: ignore[attr-defined]


def test_nothing_is_said_without_an_instance_or_an_energy(runs: tuple[Path, Path]) -> None:
    (found,) = opened([runs[0]]).values()
    assert isinstance(found, AlphaRun)
    answers, seen = EnergyAnswers({"mine": found}), Seen("x.png", PIXELS)
    assert answers.clicked("mine", seen, None, 0.5, 0, 0, (3, 4))[1].startswith("No instance that")
    assert answers.clicked("other", seen, None, 0.5, 0, 0, (3, 4))[1].startswith("This run has no")
    assert (
        answers.walked("mine", None, 0.5, 0.5) == (None, "") == answers.walked("other", None, 0, 0)
    )


def test_the_page_has_an_energy_where_there_is_one(runs: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the live page needs gradio")
    from genseg.reports.app import page

    for given, has in (([runs[0]], True), ([write_run(tmp_path / "far/other", 1)], False)):
        blocks = page(opened(given), tmp_path)  # type: ignore[arg-type]
        assert any(getattr(b, "elem_id", None) == "walked" for b in blocks.blocks.values()) is has
