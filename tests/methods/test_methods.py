"""The methods: what learns, what follows, what is stored, and that two processes are one."""

import math
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from processes import forked
from safetensors.torch import save_file
from torch import nn

from genseg.core.contrast import sinkhorn
from genseg.core.schedule import Plan, ema_momentum
from genseg.methods import METHODS
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.runs.checkpoint import flatten, load_latest, save, unflatten

SMALL = {
    "moco": {"queue": 24, "dim": 16},
    "simclr": {"hidden": 32, "dim": 16},
    "byol": {"hidden": 32, "dim": 16},
    "swav": {"hidden": 32, "dim": 16, "prototypes": 10, "freeze": "2 steps"},
    "simmim": {"patch": 8},
    "distill": {},
}
PAIRED = ("moco", "simclr", "byol", "swav")  # they compare two views
PLAN = Plan(images=80, batch=8, total=20)
GREY = (0.5, 0.5, 0.5)


def build(name: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    method, config = METHODS[name]
    return method(build_encoder(EncoderConfig())[0], config(**{**SMALL[name], **changes}), PLAN)


def make_views(b: int = 4, small: int = 0) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    groups = [torch.randn(2, b, 3, 32, 32, generator=g)]
    return groups + [torch.randn(small, b, 3, 32, 32, generator=g)[..., :24, :24]] * bool(small)


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()
    return module


def with_gradient(module: nn.Module) -> set[str]:
    return {
        n for n, p in module.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }


@pytest.mark.parametrize("small", [0, 3])
@pytest.mark.parametrize("name", PAIRED)
def test_gradients_reach_the_student_and_never_the_teacher(name: str, small: int) -> None:
    module = build(name)
    module(make_views(small=small))  # fills MoCo's queue: without negatives there is no gradient
    module.after_step(0.5)
    module(make_views(small=small))["loss"].backward()
    reached = with_gradient(module)
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert reached == trained
    assert any(n.startswith("encoder.") for n in trained)
    assert not any(n.startswith("teacher.") for n in trained)


@pytest.mark.parametrize("name", PAIRED)
def test_the_views_must_come_in_a_pair_of_the_largest_size(name: str) -> None:
    with pytest.raises(
        ValueError, match="compares two views of the largest size; the recipe has 1 of 32 px"
    ):
        build(name)([torch.zeros(1, 4, 3, 32, 32)])
    with pytest.raises(ValueError, match=f"{name} compares two views of the largest size"):
        build(name).expect_views([32, 24, 24], mean=GREY, std=GREY)


def test_losses_at_their_trivial_values() -> None:
    """With equal embeddings of all images each loss has its closed form."""
    views = [torch.ones(2, 6, 3, 32, 32)]
    simclr = freeze_batch_norm(build("simclr"))
    assert float(simclr(views)["loss"].detach()) == pytest.approx(simclr.trivial(6), abs=1e-4)
    assert simclr.trivial(6) == pytest.approx(math.log(11))
    moco = freeze_batch_norm(build("moco"))
    key = moco(views)["loss"] is not None and moco.pending[0][:1]
    moco.queue.copy_(key.expand_as(moco.queue))
    moco.enqueued.fill_(len(moco.queue))
    assert float(moco(views)["loss"].detach()) == pytest.approx(math.log(25), abs=1e-4)
    assert moco.trivial(6) == pytest.approx(math.log(25))
    moco.enqueued.fill_(6)  # a queue that is still being filled has that many negatives
    assert float(moco(views)["loss"].detach()) == pytest.approx(moco.trivial(6), abs=1e-4)
    assert moco.trivial(6) == pytest.approx(math.log(7))
    swav = freeze_batch_norm(build("swav"))
    with torch.no_grad():
        swav.prototypes.copy_(swav.prototypes[:1].expand_as(swav.prototypes).clone())
    assert float(swav(views)["loss"].detach()) == pytest.approx(swav.trivial(6), abs=1e-4)
    byol = freeze_batch_norm(build("byol"))
    with torch.no_grad():  # predictions lose what they share with the target
        target = F.normalize(byol.teacher(views[0][0])[0], dim=0)
        last = byol.predictor[-1].weight
        last.sub_(torch.outer(target, target @ last))
    assert float(byol(views)["loss"].detach()) == pytest.approx(byol.trivial(6), abs=1e-4)
    assert byol.trivial(6) == 4


@pytest.mark.parametrize("name", ["byol", "swav"])
def test_from_a_checkpoint_the_next_steps_are_the_same(name: str, tmp_path: Path) -> None:
    """With what is no weight: BYOL's teacher, SwAV's full queue."""

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        module = build(
            name,
            **({"queue": 8, "queue_start": "0 steps"} if name == "swav" else {"momentum": 0.9}),
        )
        return module, torch.optim.SGD(
            [p for p in module.parameters() if p.requires_grad], lr=0.1, momentum=0.9
        )

    def losses(module: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
        found = []
        for step in steps:
            module.begin_step()
            loss = module(
                [torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(step))]
            )["loss"]
            loss.backward()
            module.before_step(step / 20)
            optimizer.step()
            optimizer.zero_grad()
            module.after_step(step / 20)
            found.append(float(loss.detach()))
        return found

    module, optimizer = fresh()
    losses(module, optimizer, range(3))
    assert name == "byol" or int(module.filled) >= 8
    tensors, structure = flatten(
        {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
    )
    save(tmp_path, 3, tensors, {"structure": structure}, keep=1)
    want = losses(module, optimizer, range(3, 6))
    loaded = load_latest(tmp_path)
    assert loaded is not None
    content = unflatten(loaded[0], loaded[1]["structure"])
    again, second = fresh()
    again.load_state_dict(content["module"])
    second.load_state_dict(content["optimizer"])
    assert losses(again, second, range(3, 6)) == want
    assert all(torch.equal(x, again.state_dict()[k]) for k, x in module.state_dict().items())


def test_byol_sums_both_directions_against_the_teacher() -> None:
    module = freeze_batch_norm(build("byol"))
    x = make_views()[0]
    p = [module.predictor(module.head(module.encoder(v))) for v in x]
    z = [module.teacher(v) for v in x]
    want = sum((2 - 2 * F.cosine_similarity(a, b)).mean() for a, b in ((p[0], z[1]), (p[1], z[0])))
    torch.testing.assert_close(module([x])["loss"], want)


def test_swav_is_the_official_loop_over_crops() -> None:
    module = freeze_batch_norm(build("swav"))
    views = make_views(small=2)
    with torch.no_grad():
        crops = [v for group in views for v in group]
        scores = [
            F.normalize(module.head(module.encoder(v)), dim=1) @ module.prototypes.T for v in crops
        ]
        loss = 0.0
        for assigned in (0, 1):
            q = sinkhorn(scores[assigned])
            others = [v for v in range(len(crops)) if v != assigned]
            loss += sum(
                -(q * F.log_softmax(scores[v] / 0.1, 1)).sum(1).mean() for v in others
            ) / len(others)
        torch.testing.assert_close(module(views)["loss"], loss / 2)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["moco", "byol"])
def test_the_teacher_follows_by_the_momentum_of_its_time(name: str, progress: float) -> None:
    module = build(name)
    with torch.no_grad():
        for p in (*module.encoder.parameters(), *module.head.parameters()):
            p.add_(1.0)
    before = [p.clone() for p in module.teacher.parameters()]
    student = [*module.encoder.parameters(), *module.head.parameters()]
    module.after_step(progress)
    m = 0.999 if name == "moco" else ema_momentum(progress, 0.996)
    for old, new, s in zip(before, module.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * s, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_a_teacher_with_averaged_norms_sees_each_image_alone(name: str) -> None:
    """EMAN: its statistics follow the student's, and its batch has no influence."""
    module = build(name, teacher_norm="ema")
    for _ in range(2):
        module(make_views())
        module.after_step(0.0)
    own, student = module.teacher[0].net.bn1, module.encoder.net.bn1
    assert not own.training and student.training
    torch.testing.assert_close(own.num_batches_tracked, torch.tensor(2))
    x = make_views()[0][0]
    torch.testing.assert_close(module.teacher(x)[:2], module.teacher(x[:2]))


@pytest.mark.parametrize("name", ["moco", "byol"])
def test_averaged_norms_soon_forget_the_statistics_of_a_new_network(name: str) -> None:
    """While the weights stand still, a teacher of momentum 0.99 is its student after tens of
    updates."""
    module = build(name, teacher_norm="ema", momentum=0.99)
    own, student = module.teacher[0].net.bn1, module.encoder.net.bn1
    module(make_views())
    module.after_step(0.0)
    torch.testing.assert_close(own.running_mean, student.running_mean)
    for _ in range(80):
        module.encoder.net.bn1(module.encoder.net.conv1(make_views()[0][0]))
        module.after_step(0.0)
    torch.testing.assert_close(own.running_mean, student.running_mean, rtol=0.1, atol=1e-3)
    torch.testing.assert_close(own.running_var, student.running_var, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("name", ["byol", "swav"])
def test_a_head_may_end_in_a_batch_norm(name: str) -> None:
    """Embeddings of a batch then have mean 0 in each dimension, in training."""
    module = build(name, head="mlp_bn")
    z = module.head(module.encoder(make_views()[0][0]))
    torch.testing.assert_close(z.mean(0), torch.zeros(16), atol=1e-5, rtol=0)
    assert not module.head[-1].bias.requires_grad
    module = build(name, head="mlp_whiten")
    z = module.head(module.encoder(make_views(b=64)[0][0]))
    apart = z.T @ z / (len(z) - 1) - torch.eye(16)
    # small variances stay small
    assert apart.abs().max() < 0.99 and apart.fill_diagonal_(0).abs().max() < 0.2


def test_moco_uses_the_queue_before_it_enqueues_and_wraps_around() -> None:
    module = build("moco", queue=10)
    first = module.queue.clone()
    seen = []
    for _ in range(3):
        module(make_views())
        seen.append(module.pending[0].clone())
        module.after_step(0.0)
    torch.testing.assert_close(module.queue[8:10], seen[2][:2])
    torch.testing.assert_close(module.queue[:2], seen[2][2:])
    torch.testing.assert_close(module.queue[2:4], seen[0][2:])
    torch.testing.assert_close(module.queue[4:8], seen[1])
    assert int(module.enqueued) == 12
    assert not torch.equal(first, module.queue)


def test_moco_negatives_are_the_keys_so_far() -> None:
    """An empty queue gives a loss of zero, four equal keys at most ln 5."""
    module = freeze_batch_norm(build("moco"))
    views = [torch.ones(2, 4, 3, 32, 32)]
    assert float(module(views)["loss"].detach()) == 0.0
    module.after_step(0.0)
    assert float(module(views)["loss"].detach()) == pytest.approx(math.log(5), abs=1e-3)


def test_moco_keys_enter_only_after_an_update_and_never_in_evaluation() -> None:
    module = build("moco")
    before = module.queue.clone()
    module(make_views())
    torch.testing.assert_close(module.queue, before)
    module.pending.clear()
    module.eval()(make_views())
    assert module.pending == []


def test_moco_groups_keys_across_queries() -> None:
    """Key group g holds images g, g + 2, ...; queries are grouped as neighbours; the keys come back
    in order."""
    module, plain = build("moco", splits=2), build("moco")
    view = make_views(b=8)[0][1]
    want = torch.empty(8, 16)
    with torch.no_grad():
        for g in range(2):
            want[g::2] = F.normalize(plain.teacher(view[g::2]), dim=1)
    torch.testing.assert_close(module._keys(view), want)
    with pytest.raises(ValueError, match="does not divide into 2 batch-norm groups"):
        module._keys(view[:7])


@pytest.mark.parametrize("symmetric", [False, True])
def test_moco_groups_are_what_a_pass_for_each_would_give(symmetric: bool) -> None:
    """Queries of neighbouring images share statistics; so do all views of them; the running ones
    see each group."""
    module = build("moco", splits=2, symmetric=symmetric, head="mlp_bn")
    plain = build("moco", symmetric=symmetric, head="mlp_bn")
    views = make_views(b=8)[0]
    if not symmetric:
        views = views[:1]
    parts = [
        plain.head(plain.encoder(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        for x in views.chunk(2, 1)
    ]
    torch.testing.assert_close(module._queries(views), torch.cat(parts, 1))
    for (name, own), want in zip(
        module.encoder.state_dict().items(), plain.encoder.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(own, want, msg=name)
    torch.testing.assert_close(module.eval()._queries(views), plain.eval()._queries(views))


def test_swav_prototypes_stand_still_while_frozen_and_stay_of_unit_length() -> None:
    module = build("swav")
    for progress, moves in ((0.0, False), (0.05, False), (0.1, True)):
        module.zero_grad()
        module(make_views())["loss"].backward()
        module.before_step(progress)
        assert (module.prototypes.grad is not None) is moves
    with torch.no_grad():
        module.prototypes.mul_(3)
    module.after_step(0.1)
    torch.testing.assert_close(module.prototypes.norm(dim=1), torch.ones(10))


def test_swav_queue_joins_sinkhorn_only_when_full_newest_first() -> None:
    module = freeze_batch_norm(build("swav", queue=6, queue_start="1 steps"))
    views = make_views()
    without = module(views)["loss"].detach()
    module.after_step(0.0)  # before queue_start: nothing is stored
    assert int(module.filled) == 0
    module(views)
    kept = module.pending[0]
    module.after_step(0.05)
    torch.testing.assert_close(module.queue[:, :4], kept)
    torch.testing.assert_close(module(views)["loss"].detach(), without)  # 4 of 6: not full
    module.pending.clear()
    module(make_views(b=4))
    module.after_step(0.1)
    torch.testing.assert_close(module.queue[:, 4:], kept[:, :2])
    z = F.normalize(module.head(module.encoder(views[0][0])), dim=1)
    stacked = torch.cat([z, module.queue[0]]).detach() @ module.prototypes.detach().T
    torch.testing.assert_close(
        module._assign(z, (z @ module.prototypes.T).detach(), 0), sinkhorn(stacked)[:4]
    )


TWICE: dict[str, dict[str, object]] = {  # what is compared between two processes and one
    **{name: {} for name in SMALL},
    "moco": {"queue": 24},
    "swav": {"queue": 8, "queue_start": "0 steps"},
    "byol whitened": {"head": "mlp_whiten"},
}


def _gradients(
    name: str, views: list[torch.Tensor], folder: Path, first: int = 0
) -> tuple[float, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """folder: where a teacher is; first: number of the first image"""
    given = {"teacher": str(folder / "vit.safetensors")} if name == "distill" else {}
    module = freeze_batch_norm(build(name.split()[0], **TWICE[name], **given))
    if name == "distill":
        module.teacher.precision = torch.float32
    if name == "simmim":  # the stride of the others' encoder does not divide small views
        views = views[:1]
    b = views[0].shape[1]
    module.begin_pass(torch.arange(first, first + b), [(0, 0, first + i) for i in range(b)])
    for progress in (0.1, 0.2):  # the second pass sees the queues of the first
        module.zero_grad()
        loss = module(views)["loss"]
        loss.backward()
        module.after_step(progress)
    state = {k: v for k, v in module.state_dict().items() if "queue" in k or "enqueued" in k}
    return (
        float(loss.detach()),
        {n: p.grad for n, p in module.named_parameters() if p.grad is not None},
        state,
    )


def _one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    for name in TWICE:
        views = [v[:, rank * 4 : rank * 4 + 4] for v in make_views(b=8, small=1)]
        loss, gradients, state = _gradients(name, views, Path(folder), first=rank * 4)
        for g in gradients.values():
            torch.distributed.all_reduce(g)
            g /= 2
        found = {"loss": loss, "gradients": gradients if rank == 0 else {}, "state": state}
        torch.save(found, f"{folder}/{name}{rank}.pt")
    torch.save(
        _grouped_keys([v[:, rank * 4 : rank * 4 + 4] for v in make_views(b=8)], splits=1),
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def _grouped_keys(views: list[torch.Tensor], splits: int) -> dict[str, torch.Tensor]:
    """The keys of all processes after one pass, and the loss of the second, with batch norm as it
    is."""
    module = build("moco", splits=splits, head="mlp_bn", queue=24)
    module(views)
    module.after_step(0.1)
    return {"keys": module.queue[:8].clone(), "loss": module(views)["loss"].detach()}


def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path) -> None:
    """Loss, gradients and queues of 2 x 4 images equal those of 1 x 8, with batch norm set
    aside."""
    teacher = timm.create_model("test_vit", pretrained=False)
    save_file(teacher.state_dict(), tmp_path / "vit.safetensors", {"timm": "test_vit"})
    forked(_one_rank, str(tmp_path), count=2)
    for name in TWICE:
        loss, gradients, state = _gradients(name, make_views(b=8, small=1), tmp_path)
        ranks = [torch.load(tmp_path / f"{name}{r}.pt", weights_only=True) for r in (0, 1)]
        assert (ranks[0]["loss"] + ranks[1]["loss"]) / 2 == pytest.approx(loss, abs=1e-4), name
        assert gradients.keys() == ranks[0]["gradients"].keys()
        for key, want in gradients.items():
            scale = float(want.abs().max())
            torch.testing.assert_close(
                ranks[0]["gradients"][key], want, atol=2e-3 * scale + 1e-7, rtol=0
            )
        for key, want in state.items():
            torch.testing.assert_close(ranks[0]["state"][key], want, atol=1e-4, rtol=0)
            torch.testing.assert_close(ranks[1]["state"][key], want, atol=1e-4, rtol=0)
    # MoCo's keys are normalised among images of both processes
    want = _grouped_keys(make_views(b=8), splits=2)
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in (0, 1)]
    torch.testing.assert_close(ranks[0]["keys"], want["keys"])
    torch.testing.assert_close(ranks[1]["keys"], want["keys"])
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, want["loss"])
