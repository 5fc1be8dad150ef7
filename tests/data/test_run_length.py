"""Run lengths against pycocotools, and what is damaged."""

import numpy as np
import pytest
from coco_made import blob, code
from pycocotools import mask as rle

from genseg.data.instances import cut
from genseg.data.run_length import encode, run_lengths, windowed


@pytest.mark.parametrize("seed", range(6))
def test_a_window_holds_what_pycocotools_decodes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for density in (0.0, 0.02, 0.5, 0.98, 1.0):
        mask = (rng.random((rng.integers(1, 50), rng.integers(1, 50))) < density).astype(np.uint8)
        check(mask)
    check(blob(rng, 500, 700))


def check(mask: np.ndarray) -> None:
    coded = code(mask)
    found = windowed(coded)
    assert (found.paint(*mask.shape) == mask * 255).all()
    if mask.any():
        assert (found.alpha[0].any(), found.alpha[-1].any()) == (True, True)
        assert (found.alpha[:, 0].any(), found.alpha[:, -1].any()) == (True, True)
    runs = run_lengths(coded).tolist()
    again = rle.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape)
    assert again["counts"].decode() == coded["counts"]
    assert run_lengths({"size": mask.shape, "counts": runs}).tolist() == runs
    assert run_lengths({"size": mask.shape, "counts": coded["counts"].encode()}).tolist() == runs
    assert encode(found, *mask.shape) == coded


def test_a_soft_window_is_coded_as_its_mask() -> None:
    alpha = np.zeros((9, 7), np.uint8)
    alpha[2:6, 1:6], alpha[3:5, 2:4] = 100, 200
    assert encode(cut(alpha), 9, 7) == code((alpha >= 128).astype(np.uint8))


def test_runs_may_be_empty() -> None:
    found = windowed({"size": [4, 4], "counts": [0, 0, 5, 0, 2, 2, 7, 0]})
    assert found.paint(4, 4).T.ravel().tolist() == [0] * 7 + [255] * 2 + [0] * 7


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 2], "do not sum up to the 4 x 4 pixels"),
        ([20, -4], "do not sum up"),
        ([16.0], "no list of whole numbers"),
        ([], "no list of whole numbers"),
        ("", "no run-length text"),
        ("\x07", "no run-length text"),
        ("PP", "no run-length text"),
        ("P" * 30 + "0", "a number has no end"),
        ("5", "do not sum up"),
    ],
)
def test_damaged_counts_are_told(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_lengths({"size": [4, 4], "counts": counts})
