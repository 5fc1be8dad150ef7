"""Files of weights on a full disk, in a closed folder, and files that are none."""

import os
import stat
from pathlib import Path

import pytest
import torch
from full_disk import no_file_above
from torch import Tensor

from genseg.nn.weights import WeightsError, read_facts, read_weights, save_weights, whole

SMALL, LARGE = {"a": torch.arange(6.0).view(2, 3).T}, {"a": torch.zeros(100_000)}


def test_tensors_and_facts_come_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_weights(SMALL, file, {"size": 3})
    assert read_facts(file) == {"size": 3} and [f.name for f in tmp_path.iterdir()] == [file.name]
    torch.testing.assert_close(read_weights(file), SMALL)


@pytest.mark.parametrize("before", [None, SMALL], ids=["new", "there before"])
def test_a_full_disk_leaves_what_was_there(
    before: dict[str, Tensor] | None, tmp_path: Path
) -> None:
    file = tmp_path / "a.safetensors"
    if before is not None:
        save_weights(before, file, {})
    kept = {f: f.read_bytes() for f in tmp_path.iterdir()}
    with (
        no_file_above(50_000),
        pytest.raises(
            WeightsError,
            match="a.safetensors cannot be written: File too large; make room there or choose",
        ),
    ):
        save_weights(LARGE, file, {})
    assert {f: f.read_bytes() for f in tmp_path.iterdir()} == kept


def test_what_a_user_can_mend_is_the_systems_own_error(tmp_path: Path) -> None:
    """With its name, also where safetensors has met it."""
    with pytest.raises(FileNotFoundError, match="none/a.safetensors"):
        save_weights(SMALL, tmp_path / "none" / "a.safetensors", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), whole(tmp_path / "folder") as temporary:
        temporary.write_text("x")
    assert [f.name for f in tmp_path.iterdir()] == ["folder"]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("not weights at all")
    for read in (read_weights, read_facts):
        with pytest.raises(ValueError, match="text.safetensors is not a safetensors file"):
            read(tmp_path / "text.safetensors")


def test_others_may_read_weights_as_the_umask_has_it(tmp_path: Path) -> None:
    """safetensors writes files that only their owner may read: on a shared server nobody else could
    load an encoder."""
    for mask, mode in ((0o022, 0o644), (0o027, 0o640)):
        before = os.umask(mask)
        try:
            save_weights({"a": torch.zeros(2)}, tmp_path / f"{mask}.safetensors", {})
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask}.safetensors").stat().st_mode) == mode
