"""Histograms of oriented gradients against scikit-image's."""

import numpy as np
import pytest
import torch
from skimage.feature import hog as official

from genseg.core.gradients import hog


@pytest.mark.parametrize("cell", [4, 7, 8])
def test_histograms_are_those_of_scikit_image_for_each_channel(cell: int) -> None:
    images = np.random.default_rng(0).random((2, 3, 8 * cell, 4 * cell))
    found = hog(torch.from_numpy(images), cell=cell).numpy()
    assert found.shape == (2, 27, 8, 4)
    for image, histograms in zip(images, found, strict=True):
        for n, channel in enumerate(image):
            want = official(channel, 9, (cell, cell), (1, 1), block_norm="L2", feature_vector=False)
            np.testing.assert_allclose(
                histograms[9 * n : 9 * n + 9].transpose(1, 2, 0), want[:, :, 0, 0], atol=1e-6
            )


def test_an_edge_has_one_direction_and_a_flat_cell_none() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[..., :, 4:] = 1  # an upright edge in the left half: its gradient lies at 0 degrees
    histograms = hog(image, cell=8)[0]
    assert histograms[0, 0, 0] == pytest.approx(1) and not histograms[1:].any()
    assert not histograms[..., 1].any()
