"""The guided filter: a naive twin, and edges that masks move to."""

import numpy as np

from genseg.data.proposals.sharpen import GuidedFilter


def test_it_is_the_best_linear_function_of_the_colours_in_each_window() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (14, 18, 3), np.uint8)
    mask = rng.random((14, 18)).astype(np.float32)
    smooth, radius = 1e-2, 2
    found = GuidedFilter(image, reach=radius / (14 * 18) ** 0.5, smooth=smooth)(mask)
    guide = image.astype(float) / 255
    padded = np.pad(guide, [(radius, radius), (radius, radius), (0, 0)], mode="symmetric")
    target = np.pad(mask.astype(float), radius, mode="symmetric")
    linear = np.zeros((14, 18, 4))
    for y in range(14):
        for x in range(18):
            window = slice(y, y + 2 * radius + 1), slice(x, x + 2 * radius + 1)
            colours, values = padded[window].reshape(-1, 3), target[window].reshape(-1)
            spread = np.cov(colours.T, bias=True) + smooth * np.eye(3)
            shared = (colours * values[:, None]).mean(0) - colours.mean(0) * values.mean()
            slope = np.linalg.solve(spread, shared)
            linear[y, x] = *slope, values.mean() - slope @ colours.mean(0)
    for y in range(14):
        for x in range(18):
            rows = np.pad(linear, [(radius, radius), (radius, radius), (0, 0)], mode="symmetric")
            mean = rows[y : y + 2 * radius + 1, x : x + 2 * radius + 1].reshape(-1, 4).mean(0)
            assert abs(mean[:3] @ guide[y, x] + mean[3] - found[y, x]) < 1e-3


def test_a_coarse_mask_moves_to_the_edge() -> None:
    y, x = np.mgrid[:96, :128]
    disc = (y - 45) ** 2 + (x - 60) ** 2 < 28**2
    image = np.where(disc[..., None], (200, 90, 40), (30, 60, 90)).astype(np.uint8)
    coarse = disc[3::8, 3::8].astype(np.float32)  # of places of 8 pixels
    plain = np.kron(coarse, np.ones((8, 8))) > 0.5
    sharp = GuidedFilter(image, reach=8 / 110)(coarse) > 0.5

    def iou(mask: np.ndarray) -> float:
        return (mask & disc).sum() / (mask | disc).sum()

    assert iou(plain) < 0.93 < 0.985 < iou(sharp)


def test_a_mask_of_one_value_stays() -> None:
    image = np.random.default_rng(0).integers(0, 256, (600, 400, 3), np.uint8)  # fitted smaller
    found = GuidedFilter(image, reach=1 / 32)(np.ones((32, 32), np.float32))
    assert found.shape == (600, 400)
    np.testing.assert_allclose(found, 1, atol=1e-3)
