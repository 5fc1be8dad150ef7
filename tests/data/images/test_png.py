"""PNG files under any name."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genseg.data.images.png import read_png, write_png


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (7, 9, 4)])
def test_pixels_come_back_under_a_name_that_is_no_utf8(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/below/bl\xe4tter.png"))
    write_png(file, pixels)
    # the order of colours is PIL's
    np.testing.assert_array_equal(np.asarray(Image.open(file)), pixels)
    np.testing.assert_array_equal(read_png(file), pixels)


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_png(tmp_path / "none.png")
    for content in (b"", b"no image"):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png is no image"):
            read_png(tmp_path / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_png(tmp_path / "file/a.png", np.zeros((2, 2), np.uint8))
