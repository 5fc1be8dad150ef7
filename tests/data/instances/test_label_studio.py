"""Label Studio's code: by hand, and there and back for masks of any shape, also with pycocotools'
masks."""

import numpy as np
import pytest
from pycocotools import mask as rle

from genseg.data.instances.instance import Instance
from genseg.data.instances.label_studio import decode_brush, encode_brush
from genseg.data.instances.run_length import windowed


def code_of(mask: np.ndarray) -> list[int]:
    """Of a mask whose window is the whole image."""
    return encode_brush(Instance(mask.astype(np.uint8) * 255, 0, 0), *mask.shape)


def test_two_pixels_by_hand() -> None:
    """32 bits 8 bytes, 00111, the sizes 0010 0011 0111 1111; then a run of 4 zeros and one of 4
    times 255."""
    head = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    runs = "1" + "00" + "011" + "0" * 8 + "1" + "00" + "011" + "1" * 8
    bits = head + runs
    bits += "0" * (-len(bits) % 8)
    want = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert code_of(np.array([[False, True]])) == want


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (40, 60), (300, 310)])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 1.0])
def test_there_and_back(shape: tuple[int, int], part: float) -> None:
    mask = np.random.default_rng(0).random(shape) < part
    code = code_of(mask)
    assert all(0 <= n < 256 for n in code)
    np.testing.assert_array_equal(decode_brush(code, *shape), mask)


@pytest.mark.parametrize(
    "window", [(0, 0, 6, 9), (2, 0, 3, 9), (1, 3, 4, 5), (5, 8, 1, 1), (0, 0, 6, 1)]
)
def test_the_code_of_a_window_is_that_of_the_whole_image(window: tuple[int, int, int, int]) -> None:
    top, left, h, w = window
    for part in (0.5, 1.0):
        alpha = (np.random.default_rng(0).random((h, w)) < part).astype(np.uint8) * 255
        instance = Instance(alpha, top, left)
        assert encode_brush(instance, 6, 9) == code_of(instance.paint(6, 9) > 0)


def test_runs_longer_than_the_longest_length_are_split() -> None:
    mask = np.zeros((200, 400), bool)
    mask[100:] = True
    code = code_of(mask)
    assert len(code) < 60
    np.testing.assert_array_equal(decode_brush(code, 200, 400), mask)


def test_a_mask_of_pycocotools_comes_back_as_the_same_rle() -> None:
    whole = np.zeros((50, 70), np.uint8, order="F")
    whole[10:30, 20:55] = 1
    whole[15:20, 30:40] = 0
    coded = rle.encode(whole)
    back = decode_brush(encode_brush(windowed({**coded, "size": [50, 70]}), 50, 70), 50, 70)
    assert rle.encode(np.asfortranarray(back.astype(np.uint8))) == coded


def test_single_bytes_that_its_editor_may_write_are_read() -> None:
    bits = (
        f"{4:032b}"
        + "00111"
        + "0010"
        + "0011"
        + "0111"
        + "1111"
        + "0"
        + "00"
        + "011"
        + "0" * 24
        + "11111111"
    )
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    np.testing.assert_array_equal(decode_brush(code, 1, 1), [[True]])


def test_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="the code is of 8 bytes, 3 x 3 pixels have 36"):
        decode_brush(code_of(np.array([[False, True]])), 3, 3)
