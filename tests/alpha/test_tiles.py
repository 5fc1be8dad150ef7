"""Tiles cover an image with their overlaps, and what they see is put together once."""

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from genseg.alpha.merging import Merging, ranked
from genseg.alpha.tiles import Tile, agree, joined, meeting, shared, tiles_of, windows
from genseg.data.instances.instance import Instance, cut_instance


def merge_tiles(
    parts: Sequence[tuple[Tile, Sequence[Instance]]], *, overlap: float, inside: float
) -> list[Instance]:
    """The instances of an image from those of its tiles, best first: `Merging` of all at once."""
    merging = Merging(overlap, inside)
    for tile, found in parts:
        merging.add(tile, found)
    return ranked(list(merging.settled()))


def test_tiles_cover_every_pixel_and_overlap_as_asked() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        tile = int(rng.integers(8, 40))
        overlap = int(rng.integers(0, tile // 2 + 1))
        h, w = (int(n) for n in rng.integers(1, 150, 2))
        tiles = tiles_of(h, w, tile=tile, overlap=overlap)
        seen = np.zeros((h, w), int)
        for t in tiles:
            assert t.height <= tile and t.width <= tile
            assert seen[t.window].shape == (t.height, t.width)
            seen[t.window] += 1
            assert t.inner == (t.top > 0, t.left > 0, t.top + t.height < h, t.left + t.width < w)
        assert seen.min() >= 1
        for length, spans in (
            (h, {(t.top, t.height) for t in tiles}),
            (w, {(t.left, t.width) for t in tiles}),
        ):
            starts = sorted(start for start, _ in spans)
            (span,) = {span for _, span in spans}
            assert starts[0] == 0 and starts[-1] + span == length
            assert all(a + span - b >= overlap for a, b in itertools.pairwise(starts))
            least = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
            assert len(starts) == least and (
                least == 1 or least * (span - 1) < length + (least - 1) * overlap
            )


def test_an_image_that_fits_is_one_tile() -> None:
    assert tiles_of(30, 32, tile=32, overlap=8) == [Tile(0, 0, 30, 32, (False,) * 4)]


def test_a_tile_cuts_what_reaches_a_side_inside_the_image() -> None:
    square = np.full((4, 4), 255, np.uint8)
    corner = Tile(0, 20, 32, 32, (False, True, True, False))
    at = {
        (0, 10): False,
        (10, 28): False,
        (10, 1): True,
        (10, 0): True,
        (10, 2): False,
        (27, 10): True,
        (28, 10): True,
        (26, 10): False,
        (0, 28): False,
    }
    assert {k: corner.cuts(Instance(square, *k).box_xywh) for k in at} == at


def seen_by_tiles(
    shapes: list[np.ndarray],
    scores: list[float] | None = None,
    *,
    tile: int = 64,
    overlap: int = 16,
) -> list[tuple[Tile, list[Instance]]]:
    """What each tile sees of masks of the whole image. `scores` are given to the pieces in the
    order of tiles."""
    parts = []
    given = iter(scores) if scores else itertools.repeat(0.5)
    for t in tiles_of(*shapes[0].shape, tile=tile, overlap=overlap):
        found = [
            Instance(np.ascontiguousarray(s[t.window]), 0, 0)
            for s in shapes
            if (s[t.window] > 127).sum() > 8
        ]
        cut = [cut_instance(a.alpha, next(given)) for a in found]
        parts.append((t, [a for a in cut if a is not None]))
    return parts


def mask(h: int, w: int, y: float, x: float, ry: float, rx: float) -> np.ndarray:
    rows, columns = np.mgrid[:h, :w]
    return ((((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 < 1) * 255).astype(np.uint8)


def painted(found: list[Instance], h: int, w: int) -> set[bytes]:
    return {a.paint(h, w).tobytes() for a in found}


def test_an_instance_that_one_tile_sees_whole_and_another_cuts_appears_once() -> None:
    """Also when the piece scores more: whole ones come first."""
    h, w = 64, 112  # two tiles of 64 with 16 in common, 48 ... 63
    disc = mask(h, w, 30, 45, 12, 12)  # whole in the first, cut by the second
    for scores in ([0.5, 0.9], [0.9, 0.5]):
        (one,) = merge_tiles(seen_by_tiles([disc], scores), overlap=0.4, inside=0.7)
        assert one.paint(h, w).tobytes() == disc.tobytes() and one.score == scores[0]


def test_an_instance_that_both_tiles_see_whole_appears_once_with_the_better_score() -> None:
    disc = mask(64, 112, 30, 56, 5, 5)
    (one,) = merge_tiles(seen_by_tiles([disc], [0.4, 0.8]), overlap=0.4, inside=0.7)
    assert one.score == 0.8 and one.area == (disc > 0).sum()


def test_two_halves_of_a_long_one_are_joined() -> None:
    long = mask(64, 112, 30, 56, 6, 50)
    for scores in ([0.5, 0.9], [0.9, 0.5]):
        (one,) = merge_tiles(seen_by_tiles([long], scores), overlap=0.4, inside=0.7)
        assert one.paint(64, 112).tobytes() == long.tobytes() and one.score == 0.9


@pytest.mark.parametrize("order", list(itertools.permutations([0.5, 0.6, 0.7])))
def test_what_runs_through_three_tiles_is_joined_in_any_order(order: tuple[float, ...]) -> None:
    long = mask(64, 160, 30, 80, 6, 75)
    parts = seen_by_tiles([long], list(order))
    assert [len(found) for _, found in parts] == [1, 1, 1]
    (one,) = merge_tiles(parts, overlap=0.4, inside=0.7)
    assert one.paint(64, 160).tobytes() == long.tobytes() and one.score == 0.7


@pytest.mark.parametrize("scores", [[0.5, 0.9, 0.7], [0.9, 0.5, 0.7], [0.7, 0.8, 0.9]])
def test_a_sliver_of_high_score_does_not_replace_what_it_is_a_piece_of(scores: list[float]) -> None:
    """The first tile sees only what its neighbour sees too, but both are cut."""
    long = mask(64, 160, 30, 110, 6, 54)  # begins at column 57; the first tile ends at 64
    parts = seen_by_tiles([long], scores)
    assert parts[0][1][0].area < 100
    (one,) = merge_tiles(parts, overlap=0.4, inside=0.7)
    assert one.paint(64, 160).tobytes() == long.tobytes()


@pytest.mark.parametrize("order", list(itertools.permutations([0.5, 0.6, 0.7, 0.8]))[::5])
def test_what_lies_on_the_corner_of_four_tiles_is_joined(order: tuple[float, ...]) -> None:
    large = mask(112, 112, 56, 56, 40, 40)
    (one,) = merge_tiles(seen_by_tiles([large], list(order)), overlap=0.4, inside=0.7)
    assert one.paint(112, 112).tobytes() == large.tobytes()


def test_neighbours_stay_two() -> None:
    """Side by side in the overlap of two tiles, one cut by each; and two that overlap a little."""
    h, w = 64, 112
    apart = [mask(h, w, 30, 35, 8, 27), mask(h, w, 46, 80, 8, 30)]
    assert painted(merge_tiles(seen_by_tiles(apart), overlap=0.4, inside=0.7), h, w) == {
        m.tobytes() for m in apart
    }
    behind = [mask(h, w, 24, 50, 8, 40), mask(h, w, 38, 60, 8, 40)]
    assert (behind[0] & behind[1]).any()
    assert painted(merge_tiles(seen_by_tiles(behind), overlap=0.4, inside=0.7), h, w) == {
        m.tobytes() for m in behind
    }


def test_many_instances_of_a_large_image_come_back_as_they_are() -> None:
    """Discs that touch nobody, smaller than the overlap: no seams, no doubles, best first."""
    rng = np.random.default_rng(0)
    h, w = 150, 200
    shapes = [
        mask(h, w, y + rng.uniform(-2, 2), x + rng.uniform(-2, 2), 6, 6)
        for y in range(8, h - 7, 18)
        for x in range(8, w - 7, 18)
    ]
    scores = rng.uniform(0.3, 1, 4 * len(shapes)).tolist()
    found = merge_tiles(seen_by_tiles(shapes, scores), overlap=0.4, inside=0.7)
    assert len(found) == len(shapes) and painted(found, h, w) == {s.tobytes() for s in shapes}
    assert [a.score for a in found] == sorted((a.score for a in found), reverse=True)


def test_a_whole_one_around_a_better_one_stays_as_in_one_tile() -> None:
    shapes = [mask(64, 110, 30, 30, 10, 10), mask(64, 110, 30, 30, 24, 24)]
    # a worse one mostly inside a better one is its double
    for scores, left in (([0.9, 0.8], 2), ([0.8, 0.9], 1)):
        parts = seen_by_tiles(shapes, [*scores, *scores])
        assert len(merge_tiles(parts, overlap=0.4, inside=0.7)) == left
        # where that is no double in one tile either
        assert len(merge_tiles(parts, overlap=0.4, inside=1.0)) == 2


def test_no_instances_in_any_tile() -> None:
    assert (
        merge_tiles(
            [(t, []) for t in tiles_of(64, 112, tile=64, overlap=16)], overlap=0.4, inside=0.7
        )
        == []
    )


def test_shared_pixels_and_joined_alphas_are_those_of_the_whole_image() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        a, b = (
            Instance(
                cv2.resize(
                    rng.integers(0, 256, (3, 3), dtype=np.uint8),
                    tuple(int(n) for n in rng.integers(1, 12, 2)),
                ),
                int(rng.integers(12)),
                int(rng.integers(12)),
                float(rng.random()),
            )
            for _ in range(2)
        )
        one, two = a.paint(30, 30), b.paint(30, 30)
        assert shared(a, b) == shared(b, a) == ((one >= 128) & (two >= 128)).sum()
        np.testing.assert_array_equal(joined(a, b).paint(30, 30), np.maximum(one, two))
        assert joined(a, b).score == max(a.score, b.score)


# Many instances


def every_pair(parts: list[tuple[Tile, list[Instance]]], overlap: float) -> list[Instance]:
    """The same with a loop over all pairs."""
    found = [
        (t, Instance(a.alpha, a.top + t.top, a.left + t.left, a.score), t.cuts(a.box_xywh))
        for t, many in parts
        for a in many
    ]
    found.sort(key=lambda entry: (entry[2], -entry[1].score))
    kept: list[tuple[list[tuple[Tile, Instance]], Instance, bool]] = []
    for tile, instance, cut in found:
        halves = []
        for i, (pieces, other, other_cut) in enumerate(kept):
            both = shared(instance, other)
            if not both:
                continue
            least = min(instance.area, other.area) if cut or other_cut else instance.area
            double = both > overlap * (instance.area + other.area - both) or both > 0.7 * least
            piece = (
                double and both < 0.9 * least or any(agree(tile, instance, t, a) for t, a in pieces)
            )
            if cut and other_cut and piece:
                halves.append(i)
            elif double:
                break
        else:
            together, whole = [(tile, instance)], instance
            for i in reversed(halves):
                pieces, other, _ = kept.pop(i)
                together, whole = pieces + together, joined(whole, other)
            kept.append((together, whole, cut))
    return sorted((a for _, a, _ in kept), key=lambda a: -a.score)


def test_merging_is_the_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    h, w = 150, 200
    joins = 0
    for _ in range(12):
        sizes = rng.uniform((0, 0, 3, 3), (h, w, 12, 40), (25, 4))
        shapes = [s for s in (mask(h, w, *size) for size in sizes) if (s > 0).sum() > 20]
        parts = seen_by_tiles(shapes, rng.choice(np.linspace(0.3, 1, 9), 9 * len(shapes)).tolist())
        got, want = merge_tiles(parts, overlap=0.4, inside=0.7), every_pair(parts, 0.4)
        assert [(a.top, a.left, a.score, a.alpha.tobytes()) for a in got] == [
            (a.top, a.left, a.score, a.alpha.tobytes()) for a in want
        ]
        joins += sum(len(found) for _, found in parts) - len(got)
    assert joins > 100


def test_rows_of_tiles_settle_as_all_tiles_at_once() -> None:
    """In a crowd, where windows meet all over the image and long ones run through many tiles; what
    is settled leaves before the last row comes."""
    rng = np.random.default_rng(1)
    h, w, early = 400, 130, 0
    for _ in range(6):
        sizes = rng.uniform((0, 0, 3, 3), (h, w, 25, 25), (120, 4))
        shapes = [s for s in (mask(h, w, *size) for size in sizes) if (s > 0).sum() > 20]
        parts = seen_by_tiles(shapes, rng.choice(np.linspace(0.3, 1, 9), 9 * len(shapes)).tolist())
        want = merge_tiles(parts, overlap=0.4, inside=0.7)
        merging, settled = Merging(0.4, 0.7), []
        tops = sorted({t.top for t, _ in parts})
        for top, after in zip(tops, [*tops[1:], np.inf], strict=True):
            for t, found in parts:
                if t.top == top:
                    merging.add(t, found)
            settled += merging.settled(after)
            early += len(settled) if after < np.inf else 0
        assert not merging.waiting and not merging.kept
        assert [(a.top, a.left, a.score, a.alpha.tobytes()) for a in ranked(settled)] == [
            (a.top, a.left, a.score, a.alpha.tobytes()) for a in want
        ]
    assert early > 300


def test_windows_meet_where_they_have_a_pixel_in_common() -> None:
    rng = np.random.default_rng(0)
    found = [
        Instance(np.full((h, w), 255, np.uint8), top, left)
        for top, left, h, w in rng.integers((0, 0, 1, 1), (20, 20, 6, 6), (60, 4)).tolist()
    ]
    for one in found:
        assert meeting(one, windows(found)) == [i for i, a in enumerate(found) if shared(one, a)]
    assert meeting(found[0], windows([])) == []


def test_thousands_of_instances_are_merged() -> None:
    """A loop over all pairs would take minutes."""
    tile = Tile(0, 0, 1200, 1200, (False, False, True, False))
    apart = [
        Instance(np.full((6, 6), 255, np.uint8), 12 * (i // 100), 12 * (i % 100))
        for i in range(9000)
    ]
    assert len(merge_tiles([(tile, apart)], overlap=0.4, inside=0.7)) == 9000
