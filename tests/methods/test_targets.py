"""BYOL's targets: their losses by naive twins, what moves and what stays, and that two processes
are one."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

from genseg.core.schedule import Plan, ema_momentum
from genseg.methods.byol import BYOL, BYOLConfig
from genseg.methods.method import RunImages
from genseg.methods.semantic import SemanticConfig, labelled
from genseg.methods.targets import TARGETS, MiddleConfig, RandomConfig, half_of
from genseg.nn.encoder import EncoderConfig, build_encoder

PLAN = Plan(images=80, batch=8, total=20)
CLASSES = ("bird", "cat", "dog")
WORDS = "cat 1 2 0 1\ndog 0 1 1 0\nbird -1 0 3 1\n"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text(WORDS)
    return str(file)


def config_of(name: str, words: str) -> object:
    kind = TARGETS[name.split()[0]][1]
    if name == "semantic network":
        return kind(words=words, form="network")
    if name == "semantic":
        return kind(words=words)
    return {"middle random": MiddleConfig(weights="random")}.get(name) or kind()


ALL = [*TARGETS, "middle random", "semantic network"]


def build(target: object, *, name: str = "resnet18", seed: int = 0, **changes: object) -> BYOL:
    torch.manual_seed(seed)
    config = BYOLConfig(**{"target": target, "hidden": 32, "dim": 16, **changes})
    return BYOL(build_encoder(EncoderConfig(name))[0], config, PLAN)


def make_views(b: int = 4, small: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    groups = [torch.randn(2, b, 3, 32, 32, generator=g)]
    return groups + [torch.randn(small, b, 3, 24, 24, generator=g)] * bool(small)


def shown(count: int = 12, classes: tuple[str, ...] = CLASSES) -> RunImages:
    """Images of noise whose class goes around."""
    pixels = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    def views(indices: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        yield pixels[list(indices)], torch.tensor(indices)

    return RunImages(count, views, tuple(i % len(classes) for i in range(count)), classes)


def started(name: str, words: str, **changes: object) -> BYOL:
    module = build(config_of(name, words), **changes)
    module.prepare(shown(), begun=False)
    module.begin_pass(torch.tensor([0, 4, 2, 1]))
    return module


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()
    return module


def twin(p: Tensor, target: Tensor) -> Tensor:
    """Both directions of 2 - 2 cos, of two views, in float64."""
    p, t = (F.normalize(x.double(), dim=-1) for x in (p, target))
    return sum((2 - 2 * (p[i] * t[1 - i]).sum(-1)).mean() for i in range(2))


@pytest.mark.parametrize("small", [0, 2])
@pytest.mark.parametrize("name", ALL)
def test_all_of_the_student_learns_and_nothing_of_the_target(
    name: str, small: int, words: str
) -> None:
    module = started(name, words)
    module(make_views(small=small))["loss"].backward()
    reached = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert reached == trained and not any(n.startswith("teacher.") for n in trained)
    assert {n.split(".")[0] for n in trained} == {"encoder", "head", "predictor"}


@pytest.mark.parametrize("name", ALL)
def test_the_loss_is_that_of_a_naive_twin(name: str, words: str) -> None:
    module = freeze_batch_norm(started(name, words))
    x = make_views()[0]
    z = torch.stack([module.head(module.encoder(v)) for v in x])
    p = torch.stack([module.predictor(v) for v in z])
    if name == "online":
        target = z.detach()
    elif name == "semantic":
        file = {line.split()[0]: line.split()[1:] for line in WORDS.splitlines()}
        chosen = [CLASSES[i % 3] for i in (0, 4, 2, 1)]
        target = torch.tensor([[float(v) for v in file[c]] for c in chosen]).expand(2, -1, -1)
    else:
        target = torch.stack([module.teacher(v) for v in x])
    want = twin(p, target)
    torch.testing.assert_close(module([x])["loss"].double(), want, rtol=1e-5, atol=1e-6)
    parameters = [q for q in module.parameters() if q.requires_grad]
    found = torch.autograd.grad(module([x])["loss"], parameters)
    for got, expected in zip(found, torch.autograd.grad(want, parameters), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["random", "middle random", "online", "semantic"])
def test_what_follows_nobody_stays_as_it_is(name: str, words: str) -> None:
    module = started(name, words)
    before = {n: p.clone() for n, p in module.teacher.named_parameters()}
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        module(make_views())["loss"].backward()
        optimizer.step()
        module.after_step(0.5)
    after = dict(module.teacher.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in before.items())
    assert module.scheduled(0.5) == {}


@pytest.mark.parametrize("name", ["middle", "semantic network"])
def test_the_encoder_of_a_target_follows_and_what_is_behind_it_stays(name: str, words: str) -> None:
    module = started(name, words)
    with torch.no_grad():
        for p in module.encoder.parameters():
            p.add_(1.0)
    first, second = module.teacher[0], module.teacher[1]
    before = [p.clone() for p in first.parameters()], [p.clone() for p in second.parameters()]
    source = half_of(module.encoder, 0) if name == "middle" else module.encoder
    module.after_step(0.5)
    m = ema_momentum(0.5, 0.996)
    for old, new, own in zip(before[0], first.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(new, m * old + (1 - m) * own, atol=1e-6, rtol=1e-5)
    assert all(map(torch.equal, before[1], second.parameters()))
    assert module.scheduled(0.5) == {"tau": m}


def test_a_random_target_has_a_seed_of_its_own() -> None:
    """Other than the run's, even where the two numbers are equal; and it takes no draw from it."""
    plain = build(TARGETS["ema"][1]())
    one, again, other = (
        build(RandomConfig(seed=s), seed=run) for s, run in ((0, 0), (0, 5), (1, 0))
    )
    weights = [m.teacher[0].net.conv1.weight for m in (one, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], one.encoder.net.conv1.weight)
    assert all(map(torch.equal, plain.predictor.parameters(), one.predictor.parameters()))
    assert all(map(torch.equal, plain.encoder.parameters(), one.encoder.parameters()))


def test_fitted_statistics_are_those_of_the_images_and_stay() -> None:
    module = build(RandomConfig(norm="fitted"))
    images = shown()
    module.prepare(images, begun=False)
    conv, norm = module.teacher[0].net.conv1, module.teacher[0].net.bn1
    seen = conv(next(iter(images.views(range(12))))[0])
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, seen.transpose(0, 1).flatten(1).var(1))
    state = copy.deepcopy(module.teacher.state_dict())
    x = make_views()[0][0]
    module(make_views())
    torch.testing.assert_close(module.teacher(x)[:2], module.teacher(x[:2]))
    assert all(torch.equal(v, module.teacher.state_dict()[k]) for k, v in state.items())


@pytest.mark.parametrize(
    ("name", "block", "width"),
    [
        ("resnet18", 0, 128),
        ("resnet18", 5, 256),
        ("resnet34", 0, 256),
        ("resnet50", 0, 1024),
        ("tu-convnext_atto", 0, 160),
        ("tu-convnext_atto", 1, 40),
    ],
)
def test_the_middle_is_as_wide_as_its_block(name: str, block: int, width: int) -> None:
    module = build(MiddleConfig(block=block), name=name)
    assert module.teacher[1][0].in_features == width
    assert module.teacher(torch.randn(2, 3, 64, 64)).shape == (2, 16)


def test_half_of_resnet50_are_25_of_its_50_layers() -> None:
    """Those with weights, but for the ones in a shortcut."""
    module = build(MiddleConfig(), name="resnet50")
    layers = [
        n
        for n, m in module.teacher[0].named_modules()
        if isinstance(m, nn.Conv2d) and "downsample" not in n
    ]
    assert len(layers) == 25


def test_blocks_and_norms_that_do_not_exist_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="block=9: this encoder has 8 blocks; use 1 to 8"):
        build(MiddleConfig(block=9))
    with pytest.raises(ValueError, match="blocks of this encoder are not known"):
        build(MiddleConfig(), name="tu-mobilenetv3_small_050")
    for name in ("random", "online", "middle random", "semantic"):
        with pytest.raises(ValueError, match="teacher_norm=ema is for a target that follows"):
            build(config_of(name, words), teacher_norm="ema")


def test_images_without_a_class_give_no_loss(words: str) -> None:
    """Half of the images, and one class less."""
    config = SemanticConfig(words=words, labelled=0.5, unseen=("dog",))
    module = freeze_batch_norm(build(config))
    module.prepare(shown(), begun=False)
    used = (module.teacher.labels >= 0).nonzero()[:, 0].tolist()
    labels = torch.tensor(shown().labels)
    assert used == labelled(labels, CLASSES, config) and len(used) == 4
    assert {CLASSES[labels[i]] for i in used} == {"bird", "cat"}
    without = next(i for i in range(12) if i not in used)
    x = make_views()[0]
    module.begin_pass(torch.tensor([used[0], without, 2, used[1]]))
    mixed = module([x])["loss"].detach()
    module.begin_pass(torch.tensor([used[0], used[1]]))
    torch.testing.assert_close(mixed, module([x[:, [0, 3]]])["loss"].detach())
    module.begin_pass(torch.tensor([without] * 4))
    loss = module([x])["loss"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(p.grad.any() for p in module.parameters() if p.requires_grad)


def test_of_each_class_a_share_is_labelled_and_one_at_least(words: str) -> None:
    labels = torch.tensor([0] * 100 + [1] * 20 + [2] * 3)
    config = SemanticConfig(words=words, labelled=0.1)
    chosen = labelled(labels, CLASSES, config)
    assert torch.bincount(labels[chosen]).tolist() == [10, 2, 1]
    assert chosen == labelled(labels, CLASSES, config)
    assert chosen != labelled(labels, CLASSES, replace(config, seed=1))


def test_the_network_begins_by_giving_word_vectors(words: str) -> None:
    """The last layer is the ridge regression of unit word vectors on the labelled images'
    features, in the mode in which it is used."""
    module = build(SemanticConfig(words=words, form="network", labelled=0.75, ridge=0.01))
    module.prepare(shown(), begun=False)
    used = (module.teacher.labels >= 0).nonzero()[:, 0].tolist()
    assert len(used) == 9
    with torch.no_grad():
        made = module.teacher(next(iter(shown().views(used)))[0]).double()
    vectors = F.normalize(torch.tensor([[-1, 0, 3, 1], [1, 2, 0, 1], [0, 1, 1, 0]]).double(), dim=1)
    y = vectors[[shown().labels[i] for i in used]]
    features = module.teacher[0](next(iter(shown().views(used)))[0]).double()
    a = np.asarray((features - features.mean(0)).detach())
    b = np.asarray(y - y.mean(0))
    gram = a @ a.T  # the same regression in the space of the images
    fitted = gram @ np.linalg.solve(gram + len(a) * 0.01 * (a**2).mean() * np.eye(len(a)), b)
    np.testing.assert_allclose(made.numpy(), fitted + np.asarray(y.mean(0)), atol=1e-4)
    assert F.cosine_similarity(made, y).mean() > 0.95
    # of a run that goes on it comes from the checkpoint
    later = build(SemanticConfig(words=words, form="network"))
    weight = later.teacher[1].weight.clone()
    later.prepare(shown(), begun=True)
    assert torch.equal(weight, later.teacher[1].weight)


@pytest.mark.parametrize(
    ("changes", "images", "complaint"),
    [
        ({}, {"labels": None, "classes": ()}, "supervised by class names, and data.path has none"),
        ({"unseen": ("cow",)}, {}, "no classes cow; the classes are bird, cat, dog"),
        ({"unseen": ("cat", "dog")}, {}, "needs two classes or more"),
        ({}, {"classes": ("bird",), "labels": (0,) * 12}, "needs two classes or more"),
        ({}, {"classes": ("bird", "cow"), "labels": (0, 1) * 6}, "cow: 'cow'"),
        ({"words": "/no/file"}, {}, "there is no file of word vectors /no/file"),
    ],
)
def test_what_a_semantic_target_cannot_use(
    changes: dict[str, object], images: dict[str, object], complaint: str, words: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        build(SemanticConfig(**{"words": words, **changes})).prepare(
            replace(shown(), **images), begun=False
        )


def test_the_paper_s_teacher_keeps_its_names_and_numbers() -> None:
    """Checkpoints of before there were other targets are loaded, and updates are the same."""
    module = build(TARGETS["ema"][1]())
    names = {n.split(".", 2)[0] + "." + n.split(".", 2)[1] for n in module.state_dict()}
    assert {n for n in names if n.startswith("teacher")} == {"teacher.0", "teacher.1"}
    student = nn.Sequential(module.encoder, module.head).state_dict()
    teacher = module.teacher.state_dict()
    assert list(teacher) == list(student)
    assert all(map(torch.equal, teacher.values(), student.values()))


TWICE = ["online", "random fitted", "middle", "semantic network", "semantic half"]


def _gradients(name: str, part: slice, words: str) -> tuple[float, dict[str, Tensor]]:
    targets: dict[str, Callable[[], object]] = {
        "random fitted": lambda: RandomConfig(norm="fitted"),
        "semantic half": lambda: SemanticConfig(words=words, labelled=0.5),
    }
    module = build(targets[name]() if name in targets else config_of(name, words))
    module.prepare(shown(), begun=False)
    freeze_batch_norm(module)
    module.begin_pass(torch.arange(8)[part])
    loss = module([v[:, part] for v in make_views(b=8, small=1)])["loss"]
    loss.backward()
    module.after_step(0.1)
    found = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    return float(loss.detach()), found | {f"teacher {n}": p for n, p in enumerate(module.buffers())}


def _one_rank(rank: int, folder: str, words: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    for name in TWICE:
        loss, gradients = _gradients(name, slice(4 * rank, 4 * rank + 4), words)
        for n, g in gradients.items():
            if not n.startswith("teacher"):
                torch.distributed.all_reduce(g)
                g /= 2
        torch.save({"loss": loss, "found": gradients}, f"{folder}/{name}{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one_with_the_whole_batch(tmp_path: Path, words: str) -> None:
    """In a batch of which the first process has more labelled images, too."""
    mp.spawn(_one_rank, (str(tmp_path), words), nprocs=2)
    for name in TWICE:
        loss, found = _gradients(name, slice(0, 8), words)
        ranks = [torch.load(tmp_path / f"{name}{r}.pt", weights_only=True) for r in (0, 1)]
        assert (ranks[0]["loss"] + ranks[1]["loss"]) / 2 == pytest.approx(loss, abs=1e-4), name
        assert found.keys() == ranks[0]["found"].keys()
        for key, want in found.items():
            scale = float(want.abs().max()) if want.numel() else 0.0
            torch.testing.assert_close(
                ranks[0]["found"][key], want, atol=2e-3 * scale + 1e-7, rtol=0
            )
