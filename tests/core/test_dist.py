"""Collectives on two gloo processes, and as no-ops on one."""

from pathlib import Path

import pytest
import torch
from processes import forked
from torch import nn

from genseg.core import dist
from genseg.nn.momentum import follow, teacher_of


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    x = torch.tensor([[rank + 1.0, 0.0]], requires_grad=True)
    everyone = dist.gather(x)
    (everyone.sum(1).square() * (rank + 1)).sum().backward()
    failed = ""
    try:
        with dist.together():
            if rank == 1:
                raise ValueError("rank 1's own words")
    except (ValueError, RuntimeError) as error:
        failed = f"{type(error).__name__}: {error}"
    found = {
        "gathered": everyone.detach(),
        "gradient": x.grad,
        "total": dist.total(torch.tensor([1.0 + rank])),
        "over_ranks": [float(dist.over_ranks(torch.tensor(n))) for n in (3 * rank, 0)],
        "any": dist.any_rank(rank == 1),
        "none": dist.any_rank(False),
        "failed": failed,
    }
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    forked(_one_rank, str(tmp_path), count=2)
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    for r, found in enumerate(ranks):
        torch.testing.assert_close(found["gathered"], torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        own = 2 * (r + 1) * (1 + 2)  # both ranks' losses, weighted 1 and 2, see this rank's row
        torch.testing.assert_close(found["gradient"], torch.full((1, 2), float(own)))
        assert float(found["total"]) == 3.0
        assert found["over_ranks"] == [1.5, 0.5]
        assert found["any"] is True and found["none"] is False
    assert ranks[1]["failed"] == "ValueError: rank 1's own words"
    assert ranks[0]["failed"].startswith("OtherProcess: another process of this run has failed")


def test_on_one_process_nothing_happens() -> None:
    x = torch.ones(2, 3)
    assert dist.world() == 1 and dist.rank() == 0
    assert dist.gather(x) is x and dist.gather_constant(x) is x and dist.total(x) is x
    assert (
        float(dist.over_ranks(torch.tensor(4))) == 4
        and float(dist.over_ranks(torch.tensor(0))) == 1
    )
    with pytest.raises(ValueError, match="as it was"), dist.together():
        raise ValueError("as it was")


def _one_teacher(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = teacher_of(student)
    # each rank has images of its own
    student(torch.randn(8, 3, generator=torch.Generator().manual_seed(rank)))
    own = {name: x.clone() for name, x in student.named_buffers()}
    follow(teacher, student, 0.9, "ema")
    torch.save(
        {"own": own, "student": student.state_dict(), "teacher": teacher.state_dict()},
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def test_teachers_of_averaged_norms_are_the_same_on_all_ranks(tmp_path: Path) -> None:
    """Else a run that goes on with the first rank's is another one."""
    forked(_one_teacher, str(tmp_path), count=2)
    one, two = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1))
    assert not one["own"]["1.running_mean"].equal(two["own"]["1.running_mean"])
    for name in ("student", "teacher"):
        assert all(x.equal(two[name][key]) for key, x in one[name].items())
    for key in ("1.running_mean", "1.running_var"):
        torch.testing.assert_close(one["student"][key], (one["own"][key] + two["own"][key]) / 2)
