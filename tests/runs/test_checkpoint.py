"""Checkpoints: exact in every bit, the newest kept, a damaged one passed over."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from numbered import found, names, put
from torch import Tensor, nn

from genseg.runs.checkpoint import CheckpointError, flatten, load_latest, save, unflatten


def assert_same(a: Any, b: Any) -> None:
    """Equal in types, dtypes, shapes and bits, all the way down."""
    assert type(a) is type(b) or (isinstance(a, dict) and isinstance(b, dict)), (type(a), type(b))
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape
        as_bytes = [x.detach().contiguous().reshape(-1).view(torch.uint8) for x in (a, b)]
        assert torch.equal(*as_bytes)
    elif isinstance(a, dict):
        assert [(type(key), key) for key in a] == [(type(key), key) for key in b]
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert repr(a) == repr(b)  # also tells nan, -0.0 and 1 from 1.0


def through_disk(folder: Path, value: Any) -> Any:
    tensors, structure = flatten(value)
    save(folder, 0, tensors, {"structure": structure}, keep=1)
    loaded = load_latest(folder)
    assert loaded is not None
    return unflatten(loaded[0], loaded[1]["structure"])


DTYPES = (
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
)


def test_every_kind_of_value_comes_back_exactly(tmp_path: Path) -> None:
    shared = torch.arange(12.0)
    value = {
        "dtypes": [torch.tensor([0, 1, 2]).to(dtype) for dtype in DTYPES],
        "bits": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "scalar": torch.tensor(3.5),
        "empty": [torch.empty(0), torch.empty(2, 0, 3, dtype=torch.int64)],
        "shared": (
            shared,
            shared,
            shared[2:5],
            shared.view(3, 4).t(),
            shared[::3],
            shared[:1].expand(5),
        ),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.randn(3)).detach(),
        "plain": [
            None,
            True,
            1,
            1.0,
            -0.0,
            1e300,
            float("inf"),
            float("nan"),
            2**70,
            "",
            "é\n",
            (),
            [],
            {},
        ],
        "keys": {
            0: torch.zeros(1),
            "0": torch.ones(1),
            1.5: "a",
            True: "b",
            None: "c",
            "a/b": torch.ones(2),
        },
        "keys/0": torch.full((1,), 9.0),
        "a": {"b": torch.tensor(1)},
        "a/b": torch.tensor(2),
    }
    assert_same(through_disk(tmp_path, value), value)
    assert_same(through_disk(tmp_path / "one", torch.ones(2)), torch.ones(2))
    assert_same(through_disk(tmp_path / "none", ()), ())


def test_what_does_not_fit_is_named_with_its_place() -> None:
    for value, place in (({"a": [{1, 2}]}, "a/0"), ({"a": {(1, 2): 3}}, "a"), (torch.float32, "/")):
        with pytest.raises(TypeError, match=re.escape(place)):
            flatten(value)


OPTIMIZERS: list[Callable[[Any], torch.optim.Optimizer]] = [
    lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    lambda p: torch.optim.AdamW(
        [{"params": list(p), "weight_decay": 0.3, "name": "all"}], lr=torch.tensor(1e-2)
    ),
    lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True),
    lambda p: torch.optim.SGD(p, lr=1e-2),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, make: Callable[[Any], torch.optim.Optimizer]
) -> None:
    def model() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)
        )
        module = module.to(memory_format=torch.channels_last)
        return module, make(module.parameters())

    def advance(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            module(x.to(memory_format=torch.channels_last)).square().mean().backward()
            optimizer.step()

    whole = model()
    advance(*whole, range(6))
    first = model()
    advance(*first, range(3))
    before = {"module": first[0].state_dict(), "optimizer": first[1].state_dict()}
    saved = through_disk(tmp_path, before)
    assert_same(saved, {"module": dict(before["module"]), "optimizer": before["optimizer"]})
    second = model()
    second[0].load_state_dict(saved["module"])
    second[1].load_state_dict(saved["optimizer"])
    weight = second[0].state_dict()["0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last), (
        "loading copies into the model's own layout"
    )
    advance(*second, range(3, 6))
    assert_same(dict(second[0].state_dict()), dict(whole[0].state_dict()))
    assert_same(second[1].state_dict(), whole[1].state_dict())


def test_the_newest_stay_and_latest_names_the_last(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    for step in (5, 10, 100_000_000, 100_000_005):
        assert put(tmp_path, step, keep=2).is_dir()
        assert found(tmp_path) == step
    assert names(tmp_path) == ["latest", "step_100000000", "step_100000005"]
    put(tmp_path, 7, keep=3)  # the run went back: what came later belongs to another course of it
    assert names(tmp_path) == ["latest", "step_00000007"] and found(tmp_path) == 7
    with pytest.raises(ValueError, match="keep=0"):
        put(tmp_path, 8, keep=0)


def test_saving_a_step_twice(tmp_path: Path) -> None:
    folder = put(tmp_path, 5)
    inode = (folder / "state.json").stat().st_ino
    put(tmp_path, 5)
    assert (folder / "state.json").stat().st_ino == inode, "the same content is left alone"
    save(tmp_path, 5, {"weight": torch.ones(1)}, {"step": 6}, keep=2)
    loaded = load_latest(tmp_path)
    assert loaded is not None and loaded[1] == {"step": 6} and list(loaded[0]) == ["weight"]
    (folder / "tensors.safetensors").write_bytes(b"torn")
    put(tmp_path, 5)
    assert found(tmp_path) == 5 and names(tmp_path) == ["latest", "step_00000005"]


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    file = put(tmp_path, 5) / "tensors.safetensors"
    loaded = load_latest(tmp_path)
    assert loaded is not None
    loaded[0]["weight"] += 1
    assert found(tmp_path) == 5
    file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(loaded[0]["weight"], torch.full((50, 10), 6.0))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGES: list[Callable[[Path], object]] = [
    lambda p: (p / "tensors.safetensors").unlink(),
    lambda p: (p / "state.json").unlink(),
    lambda p: os.truncate(p / "tensors.safetensors", 500),
    lambda p: os.truncate(p / "state.json", 20),
    lambda p: (p / "state.json").write_text(""),
    lambda p: (p / "state.json").write_text("[]"),
    lambda p: (p / "state.json").write_text(
        (p / "state.json").read_text().replace('"step": 10', '"step": 5')
    ),
    lambda p: flip(p / "tensors.safetensors", -1),
    lambda p: flip(p / "tensors.safetensors", 3),
    lambda p: (p / "tensors.safetensors").write_bytes(
        bytes((p / "tensors.safetensors").stat().st_size)
    ),
    lambda p: shutil.rmtree(p),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    for step in (3, 5, 10):
        put(tmp_path, step, keep=3)
    damage(tmp_path / "checkpoints" / "step_00000010")
    with pytest.warns(RuntimeWarning, match="step_00000010 .*going on from step_00000005"):
        assert found(tmp_path) == 5
    put(tmp_path, 10, keep=3)
    assert found(tmp_path) == 10


def test_when_all_are_damaged_the_error_names_them(tmp_path: Path) -> None:
    for step in (5, 10):
        os.truncate(put(tmp_path, step) / "tensors.safetensors", 30)
    with pytest.raises(
        CheckpointError,
        match="step_00000010 cannot be used.*step_00000005 cannot be used.*start over",
    ):
        load_latest(tmp_path)


def test_without_a_usable_latest_the_newest_counts(tmp_path: Path) -> None:
    for step in (5, 10):
        put(tmp_path, step)
    pointer = tmp_path / "checkpoints" / "latest"
    pointer.unlink()
    assert found(tmp_path) == 10
    pointer.write_text("step_00000005")
    assert found(tmp_path) == 5
    pointer.write_bytes(b"\xff\x00")
    with pytest.warns(RuntimeWarning, match="is missing; going on from step_00000010"):
        assert found(tmp_path) == 10
