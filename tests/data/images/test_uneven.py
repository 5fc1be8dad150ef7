"""Deep images that jump in brightness are told of."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from genseg.core.reading import Reading, reading
from genseg.data.images import uneven
from genseg.data.images.uneven import DECODED, notes_on


def written(folder: Path, tops: list[int], kind: str = "uint16") -> tuple[Path, ...]:
    """TIFFs whose values go from 0 to each of `tops`."""
    files = []
    for n, top in enumerate(tops):
        files.append(folder / f"{n}.tif")
        tifffile.imwrite(files[-1], np.linspace(0, top, 1600).reshape(40, 40).astype(kind))
    return tuple(files)


def test_a_factor_between_deep_images_is_said(tmp_path: Path) -> None:
    # the second is spread by its own values, the others are not
    said = notes_on(written(tmp_path, [60000, 6000, 60000]))
    # 65535 to what 99.9 % stay below
    assert "of 3 looked at one becomes 10.9 times as bright as another" in said
    assert notes_on(written(tmp_path, [60000, 6000, 60000])) == said


@pytest.mark.parametrize(
    ("tops", "kind"),
    [
        ([60000, 20000], "uint16"),
        ([6000, 6600], "uint16"),
        ([200, 20], "uint8"),
        ([6000], "uint16"),
    ],
)
def test_images_alike_or_of_8_bits_need_no_word(tmp_path: Path, tops: list[int], kind: str) -> None:
    assert notes_on(written(tmp_path, tops, kind)) == ""


def test_few_of_many_are_decoded_and_broken_ones_left_out(tmp_path: Path) -> None:
    files = written(tmp_path, [60000, 6000] * 20)
    files[0].write_bytes(files[0].read_bytes()[:-2000])
    assert f"of {DECODED - 1} looked at" in notes_on(files)


def test_a_single_one_and_those_that_are_read_by_windows_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(uneven, "decode", never)
    files = written(tmp_path, [60000, 6000])
    assert notes_on(files[:1]) == ""
    monkeypatch.setattr(uneven, "LARGE", 1000)
    assert notes_on(files) == ""


def test_images_are_looked_at_as_they_are_read(tmp_path: Path) -> None:
    """The words of another reading were given again."""
    files = written(tmp_path, [60000, 6000])
    assert notes_on(files)
    with reading(Reading(ranges=((0.0, 60000.0),))):
        assert notes_on(files) == ""
