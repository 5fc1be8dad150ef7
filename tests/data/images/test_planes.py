"""Which values a choice takes, against indexing by hand."""

from pathlib import Path

import numpy as np
import pytest

from genseg.core.reading import Reading, parse
from genseg.data.images.original import read_original
from genseg.data.images.planes import Held, apply, choose, planes
from genseg.data.images.source import decode

RNG = np.random.default_rng(0)
HELD = Held("TZCYX", (2, 3, 4, 6, 5), "uint16", 16, ("DAPI", "GFP", "488", "488b"))
X = RNG.integers(0, 60000, HELD.shape, dtype=np.uint16)


@pytest.mark.parametrize(
    ("channels", "pages", "want", "labels"),
    [
        ("GFP", "1", [X[0, 0, [1]]], ("time 1 z 1",)),
        ("3,1", "6", [X[1, 2, [2, 0]]], ("time 2 z 3",)),
        ("488", "max z", [X[t, :, [2]].max(1) for t in range(2)], ("time 1", "time 2")),
        ("dapi", "max t", [X[:, z, [0]].max(0) for z in range(3)], ("z 1", "z 2", "z 3")),
        ("[1, 4]", "2:3", [X[0, 1, [0, 3]], X[0, 2, [0, 3]]], ("time 1 z 2", "time 1 z 3")),
        ("2", "each", [X[t, z, [1]] for t in range(2) for z in range(3)], None),
    ],
)
def test_a_choice_is_indexing(
    channels: str, pages: str, want: list[np.ndarray], labels: tuple[str, ...] | None
) -> None:
    choice = choose(HELD, parse(channels, pages))
    assert len(choice.images) == len(want) and not choice.plain
    assert labels is None or choice.labels == labels
    for n, one in enumerate(want):
        np.testing.assert_array_equal(apply(X, HELD, choice, n), np.moveaxis(one, 0, -1))


def test_a_mean_of_whole_numbers_is_one_and_nan_counts_nowhere() -> None:
    stack = Held("ZYX", (3, 6, 5), "uint16", 16, colours=1)
    x = RNG.integers(0, 60000, stack.shape, dtype=np.uint16)
    mean = apply(x, stack, choose(stack, parse("", "mean")))
    assert mean.dtype == np.uint16
    np.testing.assert_array_equal(mean[..., 0], np.rint(x.mean(0)))
    floats = x.astype(np.float32)
    floats[0, 0, 0] = floats[:, 1, 1] = np.nan
    for how, function in (("max", np.nanmax), ("mean", np.nanmean)):
        found = apply(floats, stack, choose(stack, parse("", how)))[..., 0]
        assert np.isnan(found[1, 1])
        found[1, 1], known = 0, np.where(np.isnan(floats).all(0), 0, floats)
        np.testing.assert_allclose(found, function(known, 0), rtol=1e-6)


def test_samples_of_a_pixel_are_channels_whatever_their_place() -> None:
    for axes in ("ZYXS", "ZSYX"):
        sizes = {"Z": 2, "S": 3, "Y": 6, "X": 5}
        held = Held(axes, tuple(sizes[a] for a in axes), colours=3)
        x = RNG.integers(0, 255, held.shape, dtype=np.uint8)
        found = apply(x, held, choose(held, parse("3", "2")))
        want = x[1, ..., 2] if axes == "ZYXS" else x[1, 2]
        np.testing.assert_array_equal(found[..., 0], want)
        assert planes(x, held).shape == (2, 3, 6, 5)


def test_an_axis_that_nothing_names_may_be_channels() -> None:
    held = Held("QYX", (4, 6, 5), colours=1)
    x = RNG.integers(0, 255, held.shape, dtype=np.uint8)
    choice = choose(held, parse("4,1", ""))
    assert choice.stacked
    np.testing.assert_array_equal(apply(x, held, choice), np.moveaxis(x[[3, 0]], 0, -1))
    assert not choose(held, parse("1", "each")).stacked


def test_pages_say_that_a_deep_and_narrow_array_is_a_stack(tmp_path: Path) -> None:
    x = RNG.integers(0, 255, (12, 20, 9), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    for channels in ("", "1"):
        found = decode(tmp_path / "x.npy", reading=Reading(channels, "max"))
        assert found.shape == (20, 9, 1 if channels else 3)
        np.testing.assert_array_equal(found[..., 0], x.max(0))
    np.testing.assert_array_equal(
        decode(tmp_path / "x.npy", image=4, reading=Reading("", "each"))[..., 1], x[3]
    )
    original = read_original(tmp_path / "x.npy", reading=Reading("", "max"))
    assert original.pixels.shape == (20, 9, 1) and original.channels == ("grey",)
    # without that word they are channels, and it says both
    found = decode(tmp_path / "x.npy", reading=Reading("9,1"))
    np.testing.assert_array_equal(found, x[..., [8, 0]])
    with pytest.raises(ValueError, match=r"or by --pages max, each, mean, 1 or 1:12, where its"):
        decode(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("channels", "pages", "said"),
    [
        ("", "", r"it holds 4 channels \(1 DAPI, 2 GFP, 3 488, 4 488b\) x 2 time x 3 z"),
        ("", "", r"--channels 1,2,3,4 or DAPI and --pages max z, each, mean, 1 or 1:6"),
        ("", "", r"in a recipe data.channels=1,2,3,4 data.pages='max z'"),
        ("5", "1", "there is no channel 5; it holds 4 channels"),
        ("0", "1", "channels are counted from 1"),
        ("RFP", "1", "there is no channel RFP"),
        ("1", "", "say what to use, by --pages max z"),
        ("1", "max", "say which axis is projected: pages=max t or pages=max z"),
        ("1", "mean c", "there is no axis c to project"),
        ("1", "7", "there is no page 7"),
        ("1", "3:2", "the first page comes first"),
    ],
)
def test_what_is_open_or_not_there_is_said(channels: str, pages: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose(HELD, parse(channels, pages))


def test_of_names_that_occur_twice_the_number_is_asked() -> None:
    held = Held("CYX", (2, 6, 5), names=("a", "A"))
    with pytest.raises(ValueError, match="2 channels are called a: say its number"):
        choose(held, parse("a", ""))


def test_a_single_picture_leaves_nothing_open() -> None:
    for held in (
        Held("YX", (6, 5), colours=1),
        Held("YXS", (6, 5, 3), colours=3),
        Held("YXS", (6, 5, 4), colours=3, alpha=True),
        Held("CYX", (1, 6, 5), colours=1),
    ):
        choice = choose(held, parse("", ""))
        assert choice.plain and choice.images == ((0,),)
        assert choose(held, parse("", "max")).images == ((0,),)
    with pytest.raises(ValueError, match="and 2 further pictures.*--pages 1"):
        choose(Held("YX", (6, 5), colours=1, further=2), parse("", ""))
    with pytest.raises(ValueError, match="pages=each: .* 2 further pictures.* pages=1:3 takes"):
        choose(Held("ZYX", (3, 6, 5), colours=1, further=2), parse("", "each"))
