"""Layers and hosts of one texture. Blends and the photometric part are tested in test_compose."""

import cv2
import numpy as np

from genseg.data.composites.appearance import patch_window, plain, tinted
from genseg.data.composites.bank import build_bank
from genseg.data.composites.compose import ComposeConfig, compose
from genseg.data.composites.hosts import Images
from genseg.data.instances.instance import cut


def test_a_bare_host_shows_one_texture_and_all_of_it_is_known() -> None:
    images = [
        np.random.default_rng(k).integers(0, 255, (96, 96, 3), dtype=np.uint8) for k in range(2)
    ]
    disc = np.zeros((96, 96), np.uint8)
    cv2.circle(disc, (48, 48), 12, 255, -1)
    instance = cut(disc, 0.9)
    bank = build_bank([[instance], [instance]])
    config = ComposeConfig(
        size=64, background=False, texture=1.0, pasted=(3, 3), empty=0, photometric=0
    )
    reader = Images(lambda i: images[i], stretched=False)
    for seed in range(6):
        composite = compose(np.random.default_rng(seed), seed % 2, reader, bank, config)
        assert not composite.ignored.any()
        assert composite.known.all()  # nothing of the host is a layer


def test_a_patch_lies_in_its_image_with_its_middle_in_the_window() -> None:
    rng, image = np.random.default_rng(0), np.zeros((40, 60, 3), np.uint8)
    for _ in range(50):
        rows, columns = patch_window(rng, (slice(10, 30), slice(20, 50)), image)
        assert 0 <= rows.start < rows.stop <= 40 and 0 <= columns.start < columns.stop <= 60
        assert (
            4 <= rows.stop - rows.start <= 10
            and rows.stop - rows.start == columns.stop - columns.start
        )
        assert (
            10 <= (rows.start + rows.stop) / 2 < 31
            and 20 <= (columns.start + columns.stop) / 2 < 51
        )


def test_a_tint_is_one_gain_for_each_channel() -> None:
    colour = np.random.default_rng(1).uniform(10, 100, (8, 8, 3)).astype(np.float32)
    gain = tinted(np.random.default_rng(2), colour) / colour
    assert np.ptp(gain, axis=(0, 1)).max() < 1e-4
    assert np.exp(-0.5) <= gain.min() and gain.max() <= np.exp(0.5)


def test_a_bare_host_of_a_flat_image_is_flat() -> None:
    flat = plain(np.random.default_rng(3), np.full((50, 50, 3), 90, np.uint8), 32)
    assert flat.shape == (32, 32, 3) and np.ptp(flat, axis=(0, 1)).max() == 0
