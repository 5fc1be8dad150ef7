"""Composites: the image is what the layers say, what is unknown is ignored, and nothing gives
pasting away."""

from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest
from made import PLAIN, Layers, disc, flat, images_of, iou, textured

from genseg.data.composites.affine import moved, pose
from genseg.data.composites.appearance import BLUR, Blend, blended
from genseg.data.composites.bank import build_bank
from genseg.data.composites.compose import (
    ComposeConfig,
    Composite,
    _elsewhere,
    _host,
    collate,
    compose,
    visible,
)
from genseg.data.instances.instance import Instance, cut


def test_visible_alphas_and_background_sum_to_one() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        amodal = rng.random((int(rng.integers(1, 9)), 5, 7))
        amodal[rng.random(amodal.shape) < 0.3] = rng.integers(2)
        seen = visible(amodal)
        np.testing.assert_allclose(seen.sum(0) + np.prod(1 - amodal, axis=0), 1, atol=1e-12)
        for k in range(len(amodal)):
            np.testing.assert_allclose(
                seen[k], amodal[k] * np.prod(1 - amodal[k + 1 :], axis=0), atol=1e-12
            )


def test_what_is_in_front_hides_what_is_behind() -> None:
    amodal = np.zeros((2, 1, 3))
    amodal[0, 0], amodal[1, 0] = (1, 1, 0.5), (0, 1, 0.5)
    np.testing.assert_array_equal(visible(amodal)[:, 0], [[1, 0, 0.25], [0, 1, 0.5]])


@pytest.mark.parametrize("blend", get_args(Blend))
@pytest.mark.parametrize("null", [0.0, 0.5])
def test_the_image_is_the_sum_of_its_layers(pasted: Layers, blend: str, null: float) -> None:
    """x = sum_k v_k c_k, with the visible alphas of all layers, those that are no instance too."""
    sources = [textured(i) for i in range(3)]
    bank = build_bank([[], *([cut(disc(80, 40, 38, r))] for r in (9, 14))])
    config = replace(PLAIN, blends=(blend,), empty=null)
    for seed in range(4):
        pasted.clear()
        host = compose(
            np.random.default_rng(seed), 0, images_of(sources), bank, replace(config, pasted=(0, 0))
        ).image
        made = compose(np.random.default_rng(seed), 0, images_of(sources), bank, config)
        amodal = np.array([layer.alpha for layer in pasted], np.float64)
        seen = visible(amodal)
        want = np.prod(1 - amodal, axis=0)[..., None] * host
        for v, layer in zip(seen, pasted, strict=True):
            want += v[..., None] * layer.colour
        np.testing.assert_allclose(made.image, np.clip(want, 0, 255), atol=0.51)
        target = np.array([layer.target for layer in pasted])
        np.testing.assert_allclose(made.visible, seen[target] * 255, atol=0.51)
        np.testing.assert_allclose(made.amodal, amodal[target] * 255, atol=0.51)
        assert made.known.all() and len(made.known) == target.sum() > 0


def test_colours_are_those_of_the_visible_alphas() -> None:
    """Hard red, green and blue cut-outs over black: each channel is the visible alpha of its
    layers."""
    sources = [flat((0, 0, 0)), flat((255, 0, 0)), flat((0, 255, 0)), flat((0, 0, 255))]
    bank = build_bank([[], *([cut(disc(80, 40, 40, 12))] for _ in range(3))])
    for seed in range(8):
        made = compose(
            np.random.default_rng(seed),
            0,
            images_of(sources),
            bank,
            replace(PLAIN, blends=("hard",)),
        )
        total = made.visible.astype(float).sum(0)
        np.testing.assert_allclose(
            made.image.astype(float).sum(2), total, atol=len(made.visible) + 2
        )
        for alpha in made.visible:
            if (alpha > 250).any():
                assert set(made.image[alpha > 250].argmax(1)) <= {
                    int(made.image[alpha > 250][0].argmax())
                }


def test_a_null_layer_that_is_put_back_changes_nothing() -> None:
    """No background anywhere: image, alphas and what is ignored are as without the layers."""
    for score in (1.0, 0.2):  # the host is covered by an instance, or by what may be one
        whole = Instance(np.full((80, 80), 255, np.uint8), 0, 0, score)
        bank = build_bank([[whole], [cut(disc(80, 40, 40, 12))]])
        for seed in range(6):
            sources = images_of([textured(0), textured(1)])
            without, having = (
                compose(
                    np.random.default_rng(seed),
                    0,
                    sources,
                    bank,
                    replace(PLAIN, empty=null, pasted=count),
                )
                for null, count in ((0.0, (0, 0)), (1.0, (6, 6)))
            )
            for name, x in vars(without).items():
                np.testing.assert_array_equal(getattr(having, name), x, err_msg=name)


def test_background_pasted_on_background_is_no_target(pasted: Layers) -> None:
    bank = build_bank([[], [cut(disc(80, 40, 40, 12))]])
    for seed in range(5):
        sources = images_of([textured(0), textured(1)])
        made = compose(
            np.random.default_rng(seed),
            0,
            sources,
            bank,
            replace(PLAIN, empty=1.0, zoom=(1.0, 1.2)),
        )
        assert (
            len(made.visible) == len(made.amodal) == len(made.known) == 0 and not made.ignored.any()
        )
    assert len(pasted) > 10 and not any(layer.target for layer in pasted)


def test_a_null_layer_never_shows_an_instance(pasted: Layers) -> None:
    """Instances are white here, those of the host and pasted ones; what is pasted as background is
    dark."""
    alphas = [disc(80, 20 + 20 * i, 20 + 40 * (i % 2), 9) for i in range(3)]
    host = np.max(alphas, axis=0)[..., None].repeat(3, 2)
    bank = build_bank([[cut(a) for a in alphas], [cut(disc(80, 40, 40, 9))]])
    config = replace(PLAIN, empty=0.5, blends=("hard", "feathered"))  # others change the colour
    for seed in range(30):
        compose(
            np.random.default_rng(seed), 0, images_of([host, flat((255, 255, 255))]), bank, config
        )
    nulls = [layer for layer in pasted if not layer.target]
    assert len(nulls) > 20
    for layer in nulls:
        assert layer.colour[layer.alpha > 0.8].mean() < 64


def test_unsure_proposals_are_ignored_and_never_targets(pasted: Layers) -> None:
    unsure, sure = cut(disc(80, 40, 40, 30), 0.4), cut(disc(80, 40, 40, 9), 0.9)
    bank = build_bank([[unsure], [sure], [replace(unsure, score=0.49)]])
    sources = images_of([textured(i) for i in range(3)])
    still = replace(PLAIN, zoom=(1.0, 1.0))
    for seed in range(5):
        pasted.clear()
        bare = compose(np.random.default_rng(seed), 0, sources, bank, replace(still, pasted=(0, 0)))
        assert len(bare.visible) == 0 and bare.ignored.sum() > 1000
        made = compose(np.random.default_rng(seed), 0, sources, bank, still)
        assert len(made.visible) == len(pasted) and made.known.all()
        over = (
            np.prod([1 - layer.alpha for layer in pasted], axis=0) if pasted else np.ones((64, 64))
        )
        sharp = np.abs(over - 0.5) > 0.01  # the alpha of the proposal itself is soft too
        solid = cv2.erode(bare.ignored.astype(np.uint8), np.ones((5, 5))) > 0
        np.testing.assert_array_equal(made.ignored[sharp & solid], over[sharp & solid] > 0.5)
        assert not (made.ignored & ~bare.ignored).any()
        assert not made.ignored[(made.amodal > 200).any(0)].any()


def test_a_host_of_which_nothing_is_known_is_ignored_except_for_what_is_pasted(
    pasted: Layers,
) -> None:
    """background=False: neither its proposals below `native` nor the rest; those from `sure` on are
    pasted."""
    own = cut(disc(80, 40, 40, 9), 0.7)
    config = replace(PLAIN, native=1.1, background=False, empty=0.3, own=1.0)
    for seed in range(5):
        pasted.clear()
        made = compose(
            np.random.default_rng(seed), 0, images_of([textured(0)]), build_bank([[own]]), config
        )
        assert (
            pasted and made.known.all() and len(made.known) == sum(layer.target for layer in pasted)
        )
        left = np.prod([1 - layer.alpha for layer in pasted], axis=0)
        assert not made.ignored[left < 0.4].any()
        # at the soft border of a proposal neither it nor the background is sure: 0.5 of each
        assert made.ignored[left > 0.99].mean() > 0.95


def test_ground_of_which_nothing_is_known_is_not_pasted_as_no_instance(pasted: Layers) -> None:
    """It may show instances that nobody has proposed."""
    sources, bank = [textured(i) for i in range(2)], build_bank([[], [cut(disc(80, 40, 38, 9))]])
    config = replace(PLAIN, background=False, empty=0.7, pasted=(6, 6))
    for seed in range(10):
        made = compose(np.random.default_rng(seed), 0, images_of(sources), bank, config)
        assert all(layer.target for layer in pasted)
        assert not (~made.ignored & (made.visible.sum(0) == 0)).any()
        pasted.clear()


def test_nothing_is_pasted_when_no_proposal_is_sure(pasted: Layers) -> None:
    bank = build_bank([[], [cut(disc(80, 40, 40, 9), 0.49)]])
    for seed in range(5):
        made = compose(
            np.random.default_rng(seed), 0, images_of([textured(0), textured(1)]), bank, PLAIN
        )
        assert len(made.known) == 0
    assert not pasted


def test_the_hosts_own_layers_are_known_by_what_is_seen_of_them() -> None:
    own = [cut(disc(80, 25, 25, 10)), cut(disc(80, 55, 55, 12))]
    bank = build_bank([own, [cut(disc(80, 40, 40, 9))]])
    config = replace(PLAIN, zoom=(0.8, 0.8), pasted=(4, 4))
    made = [
        compose(np.random.default_rng(s), 0, images_of([textured(0), textured(1)]), bank, config)
        for s in range(5)
    ]
    for composite in made:
        assert composite.known.tolist() == [False, False] + [True] * (len(composite.known) - 2)
        assert (composite.visible <= composite.amodal.astype(int) + 1).all()
    assert any(len(c.known) > 4 for c in made)


def test_equal_seeds_give_equal_composites_and_others_do_not() -> None:
    bank = build_bank([[cut(disc(80, 30, 30, 9), 0.3)], [cut(disc(80, 40, 40, 9))]])
    sources = images_of([textured(0), textured(1)])
    config = ComposeConfig(size=64, pasted=(3, 8))
    one, two, other = (
        compose(np.random.default_rng(s), 0, sources, bank, config) for s in (3, 3, 4)
    )
    for name, x in vars(one).items():
        np.testing.assert_array_equal(getattr(two, name), x, err_msg=name)
    assert not np.array_equal(one.image, other.image)


def test_host_and_proposals_move_together() -> None:
    """A painted disc and its proposal stay on each other through flips, quarters and zooms."""
    poses, size = set(), 96
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = disc(160, 60 + rng.uniform(0, 40), 60 + rng.uniform(0, 40), 18)
        shape[:, :5] = 0
        image = np.repeat(shape[..., None], 3, 2)
        config = ComposeConfig(size=size, zoom=(0.5, 2.0), turn=seed % 2 == 0)
        out, zoom, _, (scores, alphas, _) = _host(rng, image, [cut(shape, 0.25)], config)
        whole = np.pad(out[..., 0], 1)[1:-1, 1:-1] > 127
        if whole.sum() < 200:
            continue
        assert scores.tolist() == [0.25]
        assert iou(whole, alphas[0] > 0.5) > 0.95, (seed, zoom)
        if alphas[0][[0, -1]].max() == alphas[0][:, [0, -1]].max() == 0:  # the disc lies inside
            assert whole.sum() == pytest.approx(np.pi * (18 * zoom) ** 2, rel=0.06)
            where = np.argwhere(whole).mean(0) > size / 2
            poses.add(tuple(where.tolist()))
    assert len(poses) == 4


def test_flips_and_quarters_are_those_of_the_pixels() -> None:
    """At zoom 1 and the image's own size the host is one of its eight symmetries, to the pixel;
    proposals with it."""
    image, shape = textured(0, 64), disc(64, 20, 36, 9)
    symmetries = [np.rot90(a, k) for a in (image, image[:, ::-1]) for k in range(4)]
    moved = [np.rot90(a, k) for a in (shape, shape[:, ::-1]) for k in range(4)]
    seen = set()
    for seed in range(60):
        still = replace(PLAIN, zoom=(1.0, 1.0))
        out, _, mirrored, (_, alphas, _) = _host(
            np.random.default_rng(seed), image, [cut(shape)], still
        )
        (which,) = [i for i, x in enumerate(symmetries) if np.abs(x.astype(int) - out).max() <= 1]
        assert np.abs(moved[which] / 255 - alphas[0]).max() < 0.01
        assert not mirrored.any()
        seen.add(which)
    assert len(seen) == 8


def test_a_cut_out_and_its_colours_move_together(pasted: Layers) -> None:
    """A white disc on black, pasted turned and zoomed: its colour is white where its alpha says."""
    shape = disc(120, 50, 70, 20)
    bank = build_bank([[], [cut(shape)]])
    sources = images_of([flat((90, 90, 90)), np.repeat(shape[..., None], 3, 2)])
    config = replace(PLAIN, size=128, blends=("hard", "feathered", "noise"), zoom=(0.7, 1.4))
    for seed in range(6):
        compose(np.random.default_rng(seed), 0, sources, bank, config)
    assert len(pasted) > 15
    for layer in pasted:
        near = cv2.dilate(layer.alpha, np.ones((5, 5))) > 0
        assert iou(layer.alpha > 0.5, (layer.colour[..., 0] > 127) & near) > 0.95


@pytest.mark.parametrize("blend", get_args(Blend))
def test_blends_keep_alphas_in_range_and_the_shape(blend: str) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        canvas = rng.uniform(0, 255, (48, 48, 3)).astype(np.float32) * (seed % 3 > 0)
        colour = rng.uniform(0, 255, (48, 48, 3)).astype(np.float32) * (seed % 2)
        alpha = disc(48, *rng.uniform(-5, 50, 2), 10).astype(np.float32) / 255
        changed, soft = blended(rng, colour, alpha, canvas, blend)
        assert soft.min() >= 0 and soft.max() <= 1
        assert np.isfinite(changed).all() and np.isfinite(soft).all()
        if (alpha > 0.5).sum() > 100:
            assert iou(soft > 0.5, alpha > 0.5) > 0.9


def test_matching_gives_the_colour_around_and_noise_that_of_the_canvas() -> None:
    rng, alpha = np.random.default_rng(0), disc(64, 32, 32, 12).astype(np.float32) / 255
    canvas = np.full((64, 64, 3), (200, 100, 50), np.float32)
    matched, _ = blended(rng, np.full_like(canvas, 120), alpha, canvas, "matched")
    np.testing.assert_allclose(matched, canvas, atol=1e-3)
    noisy = canvas + rng.normal(0, 9, (64, 64, 1)).astype(np.float32)
    roughened, _ = blended(rng, np.full_like(canvas, 120), alpha, noisy, "noise")
    assert roughened.std() == pytest.approx(9, rel=0.1)
    smooth, _ = blended(rng, noisy, alpha, canvas, "noise")
    np.testing.assert_array_equal(smooth, noisy)  # noise cannot be taken away


def test_a_window_holds_all_that_the_whole_canvas_would_show() -> None:
    """Moving and blending within the window of a layer is the same as on the whole canvas, to the
    bit of a level."""
    size, empty = 96, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = disc(120, *rng.uniform(20, 100, 2), rng.uniform(2, 18))
        matrix = pose(
            rng,
            cut(shape),
            tuple(rng.uniform(-20, size + 20, 2)),
            float(rng.uniform(0.4, 2.2)),
            180,
        )
        whole = (
            cv2.warpAffine(shape, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.float32)
            / 255
        )
        window, alpha = moved(cut(shape), matrix, size, margin=BLUR)
        outside = np.ones((size, size), bool)
        outside[window] = False
        assert whole[outside].max(initial=0) == 0
        np.testing.assert_allclose(alpha, whole[window], atol=1.01 / 255)
        empty += not alpha.size
        canvas, colour = rng.uniform(0, 255, (2, size, size, 3)).astype(np.float32)
        for blend in ("hard", "feathered", "matched"):
            if alpha.max(initial=0) < 0.5:
                continue
            twin, soft = blended(np.random.default_rng(seed), colour, whole, canvas, blend)
            assert soft[outside].max(initial=0) == 0
            here = blended(
                np.random.default_rng(seed), colour[window], whole[window], canvas[window], blend
            )
            np.testing.assert_allclose(here[1], soft[window], atol=1e-6)
            np.testing.assert_allclose(here[0], twin[window], atol=1e-3)
    assert 0 < empty < 30


@pytest.mark.parametrize(
    ("top", "left"), [(0, 30), (1, 30), (30, 0), (30, 1), (69, 30), (70, 30), (30, 69), (30, 70)]
)
def test_what_the_images_edge_may_cut_is_never_pasted(pasted: Layers, top: int, left: int) -> None:
    square = np.full((10, 10), 255, np.uint8)
    sources = images_of([textured(0), textured(1)])
    for seed in range(4):
        compose(
            np.random.default_rng(seed),
            0,
            sources,
            build_bank([[], [Instance(square, top, left)]]),
            PLAIN,
        )
    assert not pasted
    compose(
        np.random.default_rng(0), 0, sources, build_bank([[], [Instance(square, 30, 30)]]), PLAIN
    )
    assert pasted


def test_an_empty_bank_leaves_the_host() -> None:
    made = compose(
        np.random.default_rng(0), 0, images_of([flat((10, 20, 30))]), build_bank([[]]), PLAIN
    )
    assert made.visible.shape == made.amodal.shape == (0, 64, 64) and made.known.shape == (0,)
    assert not made.ignored.any() and (made.image == (10, 20, 30)).all()


def test_a_host_smaller_than_the_composite_is_mirrored_to_its_size() -> None:
    small = textured(0, 20)
    made = compose(
        np.random.default_rng(0),
        0,
        images_of([small]),
        build_bank([[]]),
        replace(PLAIN, zoom=(1.0, 1.0)),
    )
    assert made.image.shape == (64, 64, 3)
    np.testing.assert_allclose(made.image.mean((0, 1)), small.mean((0, 1)), atol=12)


def test_what_is_mirrored_is_not_asked_about() -> None:
    """It shows instances that are none of the layers: they would be taught to be no instances."""
    bank = build_bank([[cut(disc(20, 10, 10, 6))]])
    config = replace(PLAIN, zoom=(1.0, 1.0), pasted=(0, 0))
    made = compose(np.random.default_rng(0), 0, images_of([textured(0, 20)]), bank, config)
    assert 19**2 <= (made.ignored < 0.5).sum() <= 20**2 and len(made.visible) == 1
    seen = made.visible[0] > 127
    assert seen.sum() > 100 and not (made.ignored[seen] > 0.5).any()


def test_elsewhere_is_background_or_nothing() -> None:
    canvas = textured(0, 32).astype(np.float32)
    alpha = disc(32, 16, 16, 6).astype(np.float32) / 255
    background = (np.arange(32) >= 16)[:, None].repeat(32, 1).astype(np.float32)
    window = (slice(6, 27), slice(7, 26))
    found = [
        _elsewhere(np.random.default_rng(s), canvas, background, window, alpha[window])
        for s in range(20)
    ]
    moved = [x for x in found if x is not None]
    assert (
        moved
        and _elsewhere(
            np.random.default_rng(0), canvas, np.zeros_like(alpha), window, alpha[window]
        )
        is None
    )
    half = canvas[16:].reshape(-1, 3).tolist()
    assert all(x.tolist() in half for colour in moved for x in colour[alpha[window] > 0.5])


def test_a_batch_holds_the_layers_of_its_images_in_order() -> None:
    bank = build_bank([[cut(disc(80, 40, 40, 12))], [], [cut(disc(80, 40, 40, 9), 0.3)]])
    sources = images_of([textured(i) for i in range(3)])
    made = [
        compose(np.random.default_rng(i), i, sources, bank, replace(PLAIN, pasted=(0, i)))
        for i in (0, 1, 2)
    ]
    empty = Composite(
        made[0].image,
        made[0].visible[:0],
        made[0].amodal[:0],
        made[0].known[:0],
        made[0].ignored,
        made[0].source[:0],
    )
    batch = collate([made[0], empty, *made[1:]])
    for i, one in enumerate([made[0], empty, *made[1:]]):
        mine = batch.owner == i
        np.testing.assert_array_equal(batch.image[i], one.image)
        np.testing.assert_array_equal(batch.visible[mine], one.visible)
        np.testing.assert_array_equal(batch.amodal[mine], one.amodal)
        np.testing.assert_array_equal(batch.known[mine], one.known)
        np.testing.assert_array_equal(batch.ignored[i], one.ignored)
        np.testing.assert_array_equal(batch.source[mine], one.source)
    none = collate([empty, empty])
    assert none.owner.shape == (0,) and none.visible.shape == (0, 64, 64)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 16}, "size=16: use 32 or more"),
        ({"blends": ()}, "name one or more of hard, feathered, matched, noise"),
        ({"zoom": (1.4, 0.7)}, "are .smallest, largest."),
        ({"pasted": (5, 2)}, "are .smallest, largest."),
        ({"empty": -0.1}, "empty=-0.1: use 0 to 1"),
        ({"shared": -1}, "shared=-1: use 0 or more"),
    ],
)
def test_numbers_that_make_no_composite_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ComposeConfig(**values)


def test_as_many_are_pasted_as_were_drawn_though_few_of_a_bank_can_be(pasted: Layers) -> None:
    """Three of four cut-outs are unsure or cut by the border of their image: another one is
    drawn."""
    fit, unsure = cut(disc(80, 40, 38, 9)), replace(cut(disc(80, 40, 38, 9)), score=0.1)
    bank = build_bank([[], [fit, unsure, unsure, cut(disc(80, 40, 3, 9))]])
    images, config = images_of([textured(0), textured(1)]), replace(PLAIN, pasted=(8, 8))
    counts = []
    for seed in range(6):
        pasted.clear()
        compose(np.random.default_rng(seed), 0, images, bank, config)
        counts.append(len(pasted))
    assert np.mean(counts) > 6.5
