"""Dim pictures are shown brighter, by a factor that is said; all others are left alone, bit by
bit."""

import numpy as np
import pytest

from genseg.show.brightness import DIM, MOST, brightened, display_gain, gain_words


def ramp(top: int, side: int = 64) -> np.ndarray:
    return (
        np.dstack([np.linspace(0, top, side * side).reshape(side, side)] * 3)
        .round()
        .astype(np.uint8)
    )


@pytest.mark.parametrize("top", [DIM, 120, 255])
def test_a_picture_that_is_not_dim_stays_the_same_array(top: int) -> None:
    pixels = np.full((40, 40, 3), top, np.uint8)
    assert display_gain(pixels) == 1 and brightened(pixels, 1.0) is pixels and gain_words(1.0) == ""


def test_a_dim_picture_reaches_white_and_keeps_its_black_and_its_colours() -> None:
    pixels = ramp(50)
    pixels[..., 1] = pixels[..., 0] // 2
    gain = display_gain(pixels)
    shown = brightened(pixels, gain)
    assert gain == pytest.approx(255 / 50, rel=0.03) and shown.max() >= 250 and shown.min() == 0
    np.testing.assert_allclose(shown, np.minimum(pixels * gain, 255), atol=0.51)
    # the data stay as they are
    assert gain_words(gain) == "shown 5.1 times as bright" and pixels.max() == 50


def test_black_stays_black_noise_stays_small_and_hot_pixels_do_not_hide_a_dim_picture() -> None:
    assert display_gain(np.zeros((30, 30, 3), np.uint8)) == 1
    assert display_gain(ramp(3)) == MOST
    hot = ramp(50)
    hot[0, 0] = 255
    assert display_gain(hot) == pytest.approx(display_gain(ramp(50)), rel=0.02)


def test_a_large_picture_has_the_gain_of_its_small_copy() -> None:
    assert display_gain(ramp(40, 3000)) == pytest.approx(display_gain(ramp(40)), rel=0.03)
