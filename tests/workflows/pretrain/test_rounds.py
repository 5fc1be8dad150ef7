"""The alpha task in a run: kills in and around mining leave no trace, proposals are adopted by the
criterion alone."""

import json
import math
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from composed import CONFIGS, COUNT, command, draw_images, few_composites
from processes import CONTEXT

import genseg.workflows.pretrain.rounds as module
from genseg.alpha.calibration import Calibration
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.mine import Mined
from genseg.alpha.model import AlphaModel, Look
from genseg.cli import main
from genseg.config import load
from genseg.data.composites.bank import Bank, load_bank
from genseg.data.images.cache import cache_folder
from genseg.data.instances.instance import Instance, cut_instance
from genseg.data.proposals.propose import PROPOSERS
from genseg.runs.checkpoint import load_latest
from genseg.runs.metrics import TIMING, Row, read_metrics
from genseg.workflows.pretrain.calibrate import calibrated, calibration_on
from genseg.workflows.pretrain.config import CHOICES, FREE_KEYS, PretrainConfig
from genseg.workflows.pretrain.parts import assemble
from genseg.workflows.pretrain.rounds import Rounds
from genseg.workflows.pretrain.session import PretrainSession
from genseg.workflows.pretrain.snapshots import Snapshots

pytestmark = pytest.mark.usefixtures("few_composites")
LOOK = Look((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), side=64, stretch=True)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_until(where: str, arguments: list[str]) -> None:
    """For a process of its own: the command, killed where it is said."""
    word, _, number = where.partition(" ")
    mine, save, measured = module.mine, module.save_bank, PretrainSession.measured
    calls = []

    def mine_and_die(*words: Any, **options: Any) -> Mined:
        calls.append(1)
        if len(calls) == int(number):
            die()
        return mine(*words, **options)

    def save_and_die(bank: Bank, path: Path) -> None:
        if word == "bank" and path.name == f"{number}.npz":
            die()
        save(bank, path)
        if word == "saved" and path.name == f"{number}.npz":
            die()

    def measured_and_die(session: PretrainSession, step: int, *rest: Any) -> None:
        if step == int(number):
            die()
        measured(session, step, *rest)

    if word == "mining":
        module.mine = mine_and_die
    if word in ("bank", "saved"):
        module.save_bank = save_and_die
    if word == "step":
        PretrainSession.measured = measured_and_die
    with few_composites():
        os._exit(main(arguments))


def run_until(where: str, arguments: list[str]) -> None:
    process = CONTEXT.Process(target=train_until, args=(where, arguments))
    process.start()
    process.join(300)
    assert process.exitcode == (0 if where == "end" else -signal.SIGKILL), where


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of the alpha task alone, of three rounds: steps 0 to 3, to 5, to 8."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    run_until("end", command("places", images, run))
    return run


def arrays(file: Path) -> list[bytes]:
    bank = load_bank(file)
    return [x.tobytes() for x in (bank.rows, bank.scores, bank.alphas)]


def without_timing(run: Path) -> list[Row]:
    return [
        {k: v for k, v in row.items() if k not in TIMING}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def assert_same(one: Path, two: Path) -> None:
    (tensors, state), (others, again) = load_latest(one), load_latest(two)
    assert state["step"] == again["step"] and tensors.keys() == others.keys()
    assert any("decoder" in k for k in tensors) and any("optimizer" in k for k in tensors)
    assert [name for name in tensors if not tensors[name].equal(others[name])] == []
    banks = [sorted(f.name for f in (run / "banks").iterdir()) for run in (one, two)]
    assert banks[0] == banks[1] == ["0.npz", "1.npz", "2.npz"]
    for name in banks[0]:
        assert arrays(one / "banks" / name) == arrays(two / "banks" / name), name
    assert without_timing(one) == without_timing(two)
    for name in ("alpha.safetensors", "encoder.safetensors", "broken.txt"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_the_alpha_task_killed_in_and_around_mining_ends_as_an_undisturbed_run(
    images: Path, whole: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    for where, *more in (
        ("mining 4", "data.workers=2"),  # within the first mining; goes on from step 2
        # its line is logged, its bank not kept; from step 3
        ("bank 1", "checkpoint.every=3 steps", "data.workers=1"),
        ("saved 2", "data.workers=2"),  # bank 2 is there, of step 5; goes on from step 4
        ("end", "data.workers=1"),
    ):
        run_until(where, command("places", images, broken, *more))
    assert_same(whole, broken)


def test_beside_a_method_killed_at_random_steps_it_ends_as_an_undisturbed_run(
    images: Path, tmp_path: Path
) -> None:
    draw, broken = random.Random(0), tmp_path / "broken"
    run_until("end", command("byol", images, tmp_path / "whole"))
    for step in (draw.randint(1, 4), draw.randint(5, 6)):
        run_until(f"step {step}", command("byol", images, broken, f"data.workers={step % 2}"))
    run_until("end", command("byol", images, broken, "data.workers=2"))
    assert_same(tmp_path / "whole", broken)


def test_what_an_undisturbed_run_says_of_its_rounds(whole: Path) -> None:
    rows = read_metrics(whole / "metrics.jsonl")
    mined = [r for r in rows if "round" in r]
    assert [(r["round"], r["step"]) for r in mined] == [(1, 3), (2, 5)]
    assert [r["proposals"] for r in mined] == [
        len(load_bank(whole / f"banks/{n}.npz")) for n in (1, 2)
    ]
    assert (
        arrays(whole / "banks/0.npz")
        != arrays(whole / "banks/1.npz")
        != arrays(whole / "banks/2.npz")
    )
    assert [r["step"] for r in rows if "loss" in r] == list(range(1, 9))
    assert (whole / "broken.txt").read_text().startswith("5a.png\t")


def test_a_resumed_run_may_change_what_changes_no_weight(
    images: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "alpha.safetensors").read_bytes()
    free = [
        "data.workers=1",
        "log_every=3 steps",
        "checkpoint.every=1 steps",
        "probe.every=2 steps",
    ]
    assert all(f.replace("=", ": ").startswith(FREE_KEYS) for f in free)
    assert main(command("places", images, whole, *free)) == 0
    for changed, said in (
        ("alpha.weight=0.5", "alpha.weight: 1.0 -> 0.5"),
        ("alpha.rounds.count=2", "alpha.rounds.count: 3 -> 2"),
        ("alpha.proposals=slic", "alpha.proposals: tree -> slic"),
    ):
        capsys.readouterr()
        assert main(command("places", images, whole, changed)) == 2
        error = capsys.readouterr().err
        assert (
            "was started with another config" in error
            and said in error
            and "Traceback" not in error
        )
    assert (whole / "alpha.safetensors").read_bytes() == before


# Rounds by themselves


class Made:
    """The rounds of a run that is not trained."""

    def __init__(self, images: Path, run: Path, *more: str) -> None:
        run.mkdir(parents=True)
        words = [
            w
            for w in command("places", images, run, *more)[3:]
            if not w.startswith("alpha.compose.sure")
        ]
        config = load(
            PretrainConfig,
            file=CONFIGS / "alpha.yaml",
            overrides=["images=null", *words],
            choices=CHOICES,
        )
        self.said: list[str] = []
        self.parts = assemble(config)
        self.file = run / "metrics.jsonl"
        self.file.touch()
        self.rounds = Rounds(self.parts, run, self.record, self.said.append)
        self.broken = self.parts.images.files.index("5a.png")

    def record(self, row: Row) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def bank(self, number: int) -> Bank:
        self.rounds._provide(number, step=self.rounds.bounds[number])
        return load_bank(self.rounds.folder / f"{number}.npz")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["alpha.proposals=blobs"],
            r"alpha.compose.sure=0.5: none of \d+ proposals by blobs scores so much .* set",
        ),
        (
            ["alpha.proposals=otsu", "alpha.min_area=4000"],
            "alpha.proposals=otsu: nothing is proposed in any image.*--config photos_alpha asks",
        ),
    ],
)
def test_proposals_that_can_never_be_pasted_end_the_run_before_it_begins(
    keys: list[str], message: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Made(images, tmp_path / "run", "alpha.compose.sure=0.5", *keys).bank(0)


def test_the_second_look_is_larger_though_the_images_were_shrunk(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = Made(images, tmp_path / "run", "alpha.side=48"), []
    made.bank(0)

    def look(model: AlphaModel, pixels: np.ndarray) -> list[Instance]:
        seen.append(model.prepared(pixels).shape)
        return []

    monkeypatch.setattr(AlphaModel, "instances", look)
    made.bank(1)
    composites = module.JUDGED  # on which scores are calibrated
    assert seen[composites:] == [(48, 54, 3), (60, 68, 3)] * COUNT


@pytest.mark.parametrize(
    ("name", "least"), [("tree", 8), ("tree", 20), ("tree", 100), ("otsu", 100)]
)
def test_the_first_bank_holds_the_proposers_proposals(
    name: str, least: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [f"alpha.proposals={name}", f"alpha.min_area={least}"]
    made = Made(images, tmp_path / "run", *chosen)
    # without views nothing is decoded a second time
    assert made.parts.source is made.parts.composed
    bank, left_out = made.bank(0), 0
    for i in range(len(made.parts.images)):
        found = (
            []
            if i == made.broken
            else PROPOSERS[name](made.parts.composed.read(i)[0], min_area=min(least, 20))
        )
        wanted = [a for a in found if a.area >= least]
        left_out += len(found) - len(wanted)
        assert len(bank.of_image(i)) == len(wanted)
        for n, want in zip(bank.of_image(i), wanted, strict=True):
            got = bank[n]
            np.testing.assert_array_equal(got.alpha, want.alpha)
            assert (got.top, got.left, got.score) == (want.top, want.left, np.float32(want.score))
    assert len(bank) >= COUNT and (left_out > 0) == (least > 20)
    sure = int((bank.scores >= 0.5).sum())
    assert made.said == [f"proposals: {len(bank)} by {name} in {COUNT + 1} images, {sure} sure"]

    def refuse(image: np.ndarray, *, min_area: int = 20) -> list[Instance]:
        raise AssertionError("the cache has them")

    monkeypatch.setitem(PROPOSERS, name, refuse)
    again = Made(images, tmp_path / "again", *chosen)
    again.bank(0)
    assert arrays(tmp_path / "run/banks/0.npz") == arrays(tmp_path / "again/banks/0.npz")
    monkeypatch.undo()
    for kept in (cache_folder() / "proposals").glob(f"*-{name}-{least}-*"):
        kept.write_bytes(kept.read_bytes()[:200])  # as after a full disk
    Made(images, tmp_path / "anew", *chosen).bank(0)
    assert arrays(tmp_path / "run/banks/0.npz") == arrays(tmp_path / "anew/banks/0.npz")


def scripted(
    monkeypatch: pytest.MonkeyPatch, sure: int, unsure: int, agreement: float | None
) -> list[int]:
    """Let mining find so many instances, all in the first image; returns the list that grows with
    each call."""
    calls: list[int] = []

    def mine(model: Any, image: np.ndarray, before: Sequence[Instance], **levels: float) -> Mined:
        assert (model.config.score, levels) == (
            0.2,
            {"sure": 0.5, "doubtful": 0.5, "agreement": 0.6, "twice": True},
        )
        calls.append(len(before))
        return Mined(squares if len(calls) == 1 else [], word)

    word = agreement
    one = Instance(np.full((5, 5), 255, np.uint8), 10, 10)
    squares = [Instance(one.alpha, 10, 10, s) for s in [0.5] * sure + [0.49] * unsure]
    monkeypatch.setattr(module, "mine", mine)
    made = SimpleNamespace(config=GenerateConfig(score=0.4), look=LOOK, device=torch.device("cpu"))
    monkeypatch.setattr(Rounds, "model", lambda self: made)
    return calls


@pytest.mark.parametrize(
    ("part", "agreement", "earlier", "adopted"),
    [
        # half as many sure proposals as before are enough; the first agreement is accepted
        (0.5, 0.3, None, True),
        (0.49, 0.9, None, False),
        (1.0, 0.58, 0.6, True),  # within the tolerance
        (1.0, 0.56, 0.6, False),
        (3.0, 0.7, 0.6, True),
        (1.0, None, None, True),  # nothing to compare counts as no agreement
        (1.0, None, 0.6, False),
    ],
)
def test_mined_proposals_are_adopted_by_the_criterion_alone(
    part: float,
    agreement: float | None,
    earlier: float | None,
    adopted: bool,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Made(images, tmp_path / "run", "alpha.rounds.tolerance=0.03")
    first = made.bank(0)
    former, number = int((first.scores >= 0.5).sum()), 1
    assert former >= 2 * COUNT
    if earlier is not None:
        scripted(monkeypatch, former, 0, earlier)
        assert len(made.bank(1)) == former
        number = 2
    sure = math.ceil(part * former) if adopted else math.floor(part * former)
    calls = scripted(monkeypatch, sure, 7, agreement)
    before = len(load_bank(made.rounds.folder / f"{number - 1}.npz"))
    bank = made.bank(number)
    assert len(calls) == COUNT and sum(calls) == before  # the broken image is not looked at
    same = arrays(made.rounds.folder / f"{number}.npz") == arrays(
        made.rounds.folder / f"{number - 1}.npz"
    )
    assert same != adopted
    if adopted:
        assert len(bank) == sure + 7 and set(bank.rows[:, 0].tolist()) == {0}
    word = agreement or 0.0
    row = {"step": made.rounds.bounds[number], "round": number, "sure": sure, "proposals": sure + 7}
    assert read_metrics(tmp_path / "run/metrics.jsonl")[-1] == row | {
        "agreement": pytest.approx(word)
    }
    assert made.said[-1].startswith(
        f"step {row['step']}: round {number + 1}: {sure} sure proposals of {sure + 7} (before: "
        f"{former} of {before}); two looks at an image agree by {100 * word:.1f} %"
    )
    assert made.said[-1].endswith("no better, so the former proposals stay") != adopted
    made.bank(number)
    assert len(calls) == COUNT  # what is there is not mined again


def test_images_that_a_round_does_not_look_at_keep_their_proposals(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(images, tmp_path / "run", "alpha.rounds.images=2")
    first = made.bank(0)
    calls = scripted(monkeypatch, 40, 0, 0.9)
    bank = made.bank(1)
    counts = [[len(b.of_image(i)) for i in range(COUNT + 1)] for b in (first, bank)]
    changed = [i for i in range(COUNT + 1) if counts[0][i] != counts[1][i]]
    assert len(calls) <= 2 and {0, 40} >= {counts[1][i] for i in changed} and 1 <= len(changed) <= 2
    for i in set(range(COUNT + 1)) - {*changed}:
        for n, m in zip(first.of_image(i), bank.of_image(i), strict=True):
            assert np.array_equal(first[n].alpha, bank[m].alpha)


@pytest.mark.parametrize(
    ("steps", "bounds"), [(9, [0, 3, 6, 9]), (8, [0, 3, 5, 8]), (2, [0, 1, 2]), (1, [0, 1])]
)
def test_a_run_has_no_round_without_a_step(
    steps: int, bounds: list[int], images: Path, tmp_path: Path
) -> None:
    assert Made(images, tmp_path / "run", f"steps={steps}").rounds.bounds == bounds


def test_scores_are_calibrated_on_composites_that_training_has_not_seen(
    images: Path, tmp_path: Path
) -> None:
    """What finds the layers of composites, and something else beside them, learns which scores are
    right."""
    made = Made(images, tmp_path / "run")
    made.bank(0)
    composites: list[Any] = []
    composer = module.Composer.__call__

    def kept(self: Any, keys: list[tuple[int, int]]) -> Any:
        composites.append((keys, composer(self, keys)))
        return composites[-1][1]

    class Oracle:
        """Scores of right ones are drawn evenly from 0.3 on, those of wrong ones up to 0.7."""

        rng = np.random.default_rng(0)

        def instances(self, image: np.ndarray) -> list[Instance]:
            _, composite = composites[-1]
            assert (composite.image[0].numpy() == image).all()
            found = [
                cut_instance(v, float(self.rng.uniform(0.3, 1))) for v in composite.visible.numpy()
            ]
            wrong = [
                Instance(np.full((2, 2), 255, np.uint8), *self.rng.integers(0, 62, 2).tolist())
                for _ in range(4)
            ]
            return [a for a in found if a] + [
                replace(a, score=float(self.rng.uniform(0, 0.7))) for a in wrong
            ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Composer, "__call__", kept)
        found = calibration_on(Oracle(), made.rounds._composer(), 64)
    assert len(composites) == len({key[0][0] for key, _ in composites}) == 64
    assert found.slope > 1.2 and 0.3 < found.score(0.5) < 0.7


def test_scores_are_calibrated_as_they_come(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the model's calibration was: of a model that an energy ranks it is another one."""
    made = Made(images, tmp_path / "run")
    made.bank(0)
    model, composer = made.rounds.model(fitted=4, judged=0), made.rounds._composer()
    seen = list[list[float]]()
    calibrate = "genseg.workflows.pretrain.calibrate."
    monkeypatch.setattr(calibrate + "FAINT", 1e-6)  # nothing has been learnt
    monkeypatch.setattr(
        calibrate + "fit_calibration", lambda x, right: seen.append(x.tolist()) or Calibration()
    )
    for before in (Calibration(), Calibration(2.0, 1.0)):
        model.calibration = before
        calibrated(model, composer, 2)
        assert model.calibration == before
    assert seen[0] == seen[1] and len(seen[0]) > 0


def test_pictures_during_a_run_take_calibrated_scores(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe's threshold is a probability: scores as they come would show other instances than
    the run's end."""
    halved, taken = Calibration(offset=-1.0), list[Calibration]()
    take = Snapshots.take

    def kept(self: Snapshots, model: AlphaModel, step: int) -> None:
        taken.append(model.calibration)
        take(self, model, step)

    monkeypatch.setattr(
        "genseg.workflows.pretrain.calibrate.fit_calibration", lambda scores, right: halved
    )
    monkeypatch.setattr(Snapshots, "take", kept)
    assert main(command("places", images, tmp_path / "run", "steps=2")) == 0
    assert taken == [halved] * 2  # before the first step, and at the end
