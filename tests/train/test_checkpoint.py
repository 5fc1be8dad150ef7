"""Checkpoints: exact, whole or absent, and an honest word when the disk is full."""

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genseg.train import checkpoint
from genseg.train.checkpoint import CheckpointError, flatten, load_latest, save, unflatten

ROOT = Path(__file__).parents[2]


def content(step: int) -> dict[str, Tensor]:
    return {"weight": torch.full((50, 10), float(step)), "count": torch.tensor(step)}


def put(folder: Path, step: int, keep: int = 2) -> Path:
    return save(folder, step, content(step), {"step": step}, keep=keep)


def found(folder: Path) -> int | None:
    """The step of the latest checkpoint; its tensors have to be those of that step."""
    loaded = load_latest(folder)
    if loaded is None:
        return None
    tensors, state = loaded
    expected = content(state["step"])
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    return int(state["step"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


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


DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int16, torch.int64)


def test_every_kind_of_value_comes_back_exactly(tmp_path: Path) -> None:
    shared = torch.arange(12.0)
    value = {
        "dtypes": [torch.tensor([0, 1, 2]).to(dtype) for dtype in DTYPES],
        "bits": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "scalar": torch.tensor(3.5),
        "empty": [torch.empty(0), torch.empty(2, 0, 3, dtype=torch.int64)],
        "shared": (shared, shared, shared[2:5], shared.view(3, 4).t(), shared[::3], shared[:1].expand(5)),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.randn(3)).detach(),
        "plain": [None, True, 1, 1.0, -0.0, 1e300, float("inf"), float("nan"), 2**70, "", "é\n", (), [], {}],
        "keys": {0: torch.zeros(1), "0": torch.ones(1), 1.5: "a", True: "b", None: "c", "a/b": torch.ones(2)},
        "keys/0": torch.full((1,), 9.0),
        "a": {"b": torch.tensor(1)},
        "a/b": torch.tensor(2),
    }  # fmt: skip
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
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
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
    lambda p: (p / "tensors.safetensors").write_bytes(bytes((p / "tensors.safetensors").stat().st_size)),
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
        CheckpointError, match="step_00000010 cannot be used.*step_00000005 cannot be used.*start over"
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


WRITES = (
    (Path, "mkdir"),
    (checkpoint, "save_file"),
    (Path, "write_text"),
    (os, "fsync"),
    (os, "rename"),
    (os, "replace"),
)
REMOVALS = ((os, "unlink"), (os, "rmdir"))


def interrupt(patch: pytest.MonkeyPatch, at: int, act: Callable[[], None], calls: Any) -> list[str]:
    """Call `act` before the `at`-th of the calls that change the disk; the list returned fills with them."""
    made: list[str] = []

    def spied(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if len(made) == at + 1:
                act()
            return original(*args, **kwargs)

        return call

    for owner, name in calls:
        patch.setattr(owner, name, spied(name, getattr(owner, name)))
    return made


def killed(at: int, folder: Path) -> bool:
    """Save step 15 in a process that dies before its `at`-th change of the disk; False when it has fewer."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, at, lambda: os._exit(9), WRITES + REMOVALS)
            put(folder, 15)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("before", [(), (3, 5, 10)])
def test_a_kill_between_any_two_changes_of_the_disk(tmp_path: Path, before: tuple[int, ...]) -> None:
    seen = []
    for at in range(100):
        folder = tmp_path / str(at)
        for step in before:
            put(folder, step)
        dead = killed(at, folder)
        seen.append(found(folder))  # a warning would be an error here: no half checkpoint has a name
        put(folder, 20)
        assert found(folder) == 20 and len(names(folder)) <= 3
        assert not [name for name in names(folder) if ".tmp-" in name]
        if not dead:
            break
    assert len(seen) > 12 and seen[-1] == 15
    assert set(seen) == {before[-1] if before else None, 15}


def test_sigkill_at_random_moments(tmp_path: Path) -> None:
    draw = random.Random(0)
    last = 0
    for _ in range(8):
        child = os.fork()
        if child == 0:
            for step in range(last + 1, 100_000):
                put(tmp_path, step)
            os._exit(1)
        time.sleep(draw.uniform(0.02, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step = found(tmp_path) or 0
        assert step >= last
        last = step
    assert last > 0


def test_a_full_disk_at_any_moment(tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for at in range(100):
        folder = tmp_path / str(at)
        for step in (3, 5, 10):
            put(folder, step)
        try:
            with pytest.MonkeyPatch.context() as patch:
                made = interrupt(patch, at, fail, WRITES)
                put(folder, 15)
            break
        except CheckpointError as error:
            good = found(folder)
            assert f"step_{good:08d} is untouched" in str(error) and "make room there" in str(error)
            assert not [name for name in names(folder) if ".tmp-" in name]
            assert good == (15 if made[: at + 1].count("replace") and made[at] != "replace" else 10)
    assert at > 10 and found(folder) == 15


def test_a_file_that_may_not_grow_is_really_cut_off_by_the_kernel(tmp_path: Path) -> None:
    put(tmp_path, 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(
            CheckpointError, match="File too large; it takes 4.0 MB: make room.*step_00000005 is untou"
        ):
            save(tmp_path, 10, {"weight": torch.zeros(1_000_000)}, {}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found(tmp_path) == 5 and names(tmp_path) == ["latest", "step_00000005"]


FILL = """
import sys
from pathlib import Path
import torch
from genseg.train.checkpoint import CheckpointError, load_latest, save
folder = Path(sys.argv[1])
save(folder, 5, {"weight": torch.ones(1000)}, {"step": 5}, keep=2)
for size in (1_000_000, 240_000):  # the tensors do not fit; they do, and state.json does not
    try:
        save(folder, 10, {"weight": torch.ones(size)}, {"log": "x" * 200_000}, keep=2)
    except CheckpointError as error:
        print(error)
print(sorted(path.name for path in (folder / "checkpoints").iterdir()), load_latest(folder)[1])
"""


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$0" "{tmp_path}"'
    own = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ]  # a mount that nobody else sees and that ends with it
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount of one's own")
    done = subprocess.run([*own, "sh", "-c", mount, FILL], cwd=ROOT, capture_output=True, text=True)
    if "mount:" in done.stderr:
        pytest.skip(done.stderr)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines[:2]:
        assert re.search("step_00000010 cannot be written: No space left .*step_00000005 is untouched", line)
    assert lines[2] == "['latest', 'step_00000005'] {'step': 5}"


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError, match="file/checkpoints/step_00000005 cannot be written.*there is no earlier one"
    ):
        put(tmp_path / "file", 5)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    put(tmp_path, 5)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(
        CheckpointError, match="Permission denied; make the folder writable.*step_00000005 is untouched"
    ):
        put(tmp_path, 10)
    assert found(tmp_path) == 5


def test_a_failure_of_another_kind_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, 5)
    with pytest.raises(TypeError, match="JSON"):
        save(tmp_path, 10, {}, {"set": {1}}, keep=1)

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        put(tmp_path, 10)
    assert names(tmp_path) == ["latest", "step_00000005"]
