"""The cut-out bank: what goes in comes out, by number and by image."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from genseg.data.composites.bank import Bank, build_bank, load_bank, save_bank
from genseg.data.instances.instance import Instance


def draw() -> list[list[Instance]]:
    """Instances of five images; the second and the last have none."""
    rng = np.random.default_rng(0)
    counts = (3, 0, 1, 2, 0)
    return [
        [
            Instance(
                rng.integers(0, 256, tuple(rng.integers(1, 9, 2)), dtype=np.uint8),
                int(rng.integers(50)),
                int(rng.integers(50)),
                float(np.float32(rng.random())),
            )
            for _ in range(n)
        ]
        for n in counts
    ]


def same(a: Instance, b: Instance) -> bool:
    return (a.top, a.left, a.score) == (b.top, b.left, b.score) and np.array_equal(a.alpha, b.alpha)


def assert_holds(bank: Bank, images: list[list[Instance]]) -> None:
    flat = [(i, a) for i, many in enumerate(images) for a in many]
    assert len(bank) == len(flat)
    for n, (image, instance) in enumerate(flat):
        assert bank.image(n) == image and same(bank[n], instance)
    for i, many in enumerate(images):
        numbers = bank.of_image(i)
        assert [k for k in range(len(flat)) if flat[k][0] == i] == list(numbers)
        assert all(same(bank[k], a) for k, a in zip(numbers, many, strict=True))


def test_a_bank_holds_every_instance_of_every_image() -> None:
    assert_holds(build_bank(draw()), draw())


def test_a_saved_bank_is_the_same_and_its_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "bank.npz"
    save_bank(build_bank(draw()[:1]), file)
    save_bank(build_bank(draw()), file)  # replaces the first
    assert_holds(load_bank(file), draw())
    assert [f.name for f in tmp_path.iterdir()] == ["bank.npz"]
    save_bank(build_bank(draw()), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("images", [[], [[], [], []]])
def test_an_empty_bank(images: list[list[Instance]], tmp_path: Path) -> None:
    save_bank(build_bank(images), tmp_path / "bank.npz")
    for bank in (build_bank(images), load_bank(tmp_path / "bank.npz")):
        assert len(bank) == 0 and list(bank.of_image(0)) == [] and list(bank.of_image(7)) == []


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    file = tmp_path / "bank.npz"
    with file.open("wb") as out:
        np.savez(out, rows=np.array([{"a": 1}], object), scores=np.zeros(1), alphas=np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_bank(file)


def test_a_damaged_bank_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bank.npz"
    save_bank(build_bank(draw()), file)
    whole = file.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2]):
        file.write_bytes(part)
        with pytest.raises(ValueError, match="bank.npz is no bank of cut-outs, or damaged"):
            load_bank(file)


def test_of_several_writers_one_stays(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: save_bank(build_bank(draw()), tmp_path / "bank.npz"), range(16)))
    assert_holds(load_bank(tmp_path / "bank.npz"), draw())
    assert [f.name for f in tmp_path.iterdir()] == ["bank.npz"]
