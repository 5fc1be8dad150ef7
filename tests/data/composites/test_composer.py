"""Batches of composites: from (seed, epoch, image) alone, with numbers in the bank; what neighbours
share."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made import PLAIN, Layers, disc, images_of, textured

from genseg.data.composites.bank import Bank, build_bank
from genseg.data.composites.compose import Composites, compose
from genseg.data.composites.composer import Composer
from genseg.data.composites.hosts import Images
from genseg.data.images.files import list_images
from genseg.data.images.source import ImageSource
from genseg.data.instances.instance import cut


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("composed")
    for i in range(5):
        cv2.imwrite(str(root / f"{i}.png"), textured(i))
    (root / "3.png").write_bytes(b"not an image")
    return root


def composer(folder: Path, bank: Bank, share: float) -> Composer:
    return Composer(
        ImageSource(list_images(folder), None),
        bank,
        replace(PLAIN, photometric=0.8),
        share=share,
        seed=1,
    )


def test_composites_depend_on_seed_epoch_and_image_alone(folder: Path) -> None:
    bank = build_bank([[], [cut(disc(80, 40, 40, 12))]])
    keys = [(0, 2), (0, 1), (1, 2), (0, 4)]
    batch, again = composer(folder, bank, 1.0)(keys), composer(folder, bank, 1.0)(keys[::-1])
    assert torch.equal(batch.image, again.image.flip(0))
    assert not torch.equal(batch.image[0], batch.image[2])  # another epoch
    assert [len(composer(folder, bank, share)(keys).image) for share in (0.01, 0.5, 0.75)] == [
        1,
        2,
        3,
    ]


def test_a_broken_host_is_replaced_with_its_own_proposals(folder: Path) -> None:
    """Image 3 is broken, and image 4 stands in for it: so do its proposals."""
    bank = build_bank([[], [], [], [], [cut(disc(80, 40, 40, 30))]])
    made = composer(folder, bank, 1.0)([(0, 3)])
    assert not made.known[0] and int(made.amodal[0].max()) == 255


def test_each_layer_says_its_number_in_the_bank(pasted: Layers) -> None:
    """Also the host's own, of which one lies outside the window or is not sure."""
    own = [cut(disc(80, 40, 40, 12)), cut(disc(80, 20, 20, 6), 0.3), cut(disc(80, 40, 12, 8))]
    bank = build_bank(
        [[cut(disc(80, 40, 40, 5))], own, [cut(disc(80, 40, 40, r)) for r in (7, 15)]]
    )
    sources = images_of([textured(i) for i in range(3)])
    config = replace(PLAIN, zoom=(1.0, 1.0), empty=0.3, blends=("hard",), rotate=0.0)
    for seed in range(6):
        pasted.clear()
        made = compose(np.random.default_rng(seed), 1, sources, bank, config)
        natives = made.source[~made.known].tolist()
        assert set(natives) <= {1, 3} and 1 in natives
        shown = [layer for layer in pasted if layer.target]
        numbers = made.source[made.known].tolist()
        assert len(numbers) == len(shown)
        for number, layer in zip(numbers, shown, strict=True):
            rows = np.flatnonzero((layer.alpha > 0.5).any(1))
            if layer.alpha[[0, -1]].max() == layer.alpha[:, [0, -1]].max() == 0:  # it lies inside
                assert np.ptp(rows) + 1 == pytest.approx(bank[number].alpha.shape[0], abs=2)


def test_shared_cut_outs_come_first_and_the_rest_of_the_draws_stays(pasted: Layers) -> None:
    bank = build_bank([[], [cut(disc(80, 40, 40, r)) for r in (6, 8, 10, 12)]])
    sources = images_of([textured(0), textured(1)])
    for seed in range(6):
        made = compose(
            np.random.default_rng(seed), 0, sources, bank, replace(PLAIN, pasted=(4, 4)), [3, 1]
        )
        assert made.source.tolist()[:2] == [3, 1] and len(made.source) == 4
        few = compose(
            np.random.default_rng(seed), 0, sources, bank, replace(PLAIN, pasted=(1, 1)), [3, 1]
        )
        assert few.source.tolist() == [3]
        alone = compose(
            np.random.default_rng(seed), 0, sources, bank, replace(PLAIN, pasted=(4, 4))
        )
        given = alone.source[:2].tolist()
        same = compose(
            np.random.default_rng(seed), 0, sources, bank, replace(PLAIN, pasted=(4, 4)), given
        )
        for name, x in vars(alone).items():
            np.testing.assert_array_equal(getattr(same, name), x, err_msg=name)


def test_neighbouring_composites_share_cut_outs_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: each is the composite of its own key alone, as ever. Some: the first of a pair still
    is."""
    many = [cut(disc(80, 20 + 8 * (i // 5), 20 + 8 * (i % 5), 5)) for i in range(25)]
    bank = build_bank([many, many, many, [], many])
    config = replace(PLAIN, pasted=(4, 6), native=1.1)
    keys = [(0, 2), (0, 1), (1, 2), (0, 4), (1, 0)]

    def made(shared: int, keys: list[tuple[int, int]]) -> Composites:
        source = ImageSource(list_images(folder), None)
        return Composer(source, bank, replace(config, shared=shared), share=1.0, seed=1)(keys)

    off, on = made(0, keys), made(3, keys)
    source = ImageSource(list_images(folder), None)
    for i, (epoch, index) in enumerate(keys):
        rng = np.random.default_rng([1, epoch, index, *b"composite"])
        want = compose(
            rng, index, Images(lambda j: source.read(j)[0], stretched=False), bank, config
        )
        np.testing.assert_array_equal(off.image[i], want.image)
        np.testing.assert_array_equal(off.visible[off.owner == i], want.visible)
    given: list[list[int]] = []
    monkeypatch.setattr(
        "genseg.data.composites.composer.compose",
        lambda *args: (given.append(args[-1]), compose(*args))[1],
    )
    assert torch.equal(made(3, keys).image, on.image)
    assert given[0] == given[1] and given[2] == given[3] and len(set(map(tuple, given))) == 3
    assert all(len(set(numbers)) == 3 for numbers in given)
    for i, numbers in enumerate(given):
        shown = on.source[on.owner == i].tolist()
        assert shown[:2] in (numbers[:2], numbers[1:], numbers[::2])  # one may lie outside
    assert torch.equal(made(3, keys[2:4]).image, on.image[2:4])
    # a first one's own
    assert torch.equal(made(3, keys[:3]).image[::2], made(3, keys[:1] + keys[2:3] * 2).image[::2])


def test_no_sure_proposal_or_fewer_than_asked_are_shared_as_far_as_they_go(folder: Path) -> None:
    for scores, want in (([0.2, 0.3], []), ([0.2, 0.9], [1])):
        bank = build_bank([[], [cut(disc(80, 40, 40, 9), s) for s in scores]])
        config = replace(PLAIN, shared=3, pasted=(1, 1), native=1.1)
        batch = Composer(ImageSource(list_images(folder), None), bank, config, share=1.0, seed=1)(
            [(0, 0), (0, 2)]
        )
        assert batch.source.tolist() == want * 2
