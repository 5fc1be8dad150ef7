"""The alpha decoder as a detector: labels as layers, classes of codes, what is found in images of
odd sizes."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genseg.alpha.calibration import Calibration
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.objective import ObjectiveConfig, assign, objective
from genseg.core import dist
from genseg.data.instances.instance import Instance, cut_instance
from genseg.nn.encoder import EncoderConfig, build_encoder
from genseg.transfer.contract import Labelled, padded
from genseg.transfer.places import PlaceDetector, PlacesConfig, as_composites

SMALL = DecoderConfig(channels=(16, 16, 8, 8), tower=8)


def detector(classes: int = 2) -> PlaceDetector:
    torch.manual_seed(0)
    encoder, _ = build_encoder(EncoderConfig("resnet18"))
    config = PlacesConfig(
        decoder=SMALL, generate=GenerateConfig(candidate=0.0, score=0.0, overlap=1, inside=1)
    )
    return PlaceDetector(encoder, AlphaDecoder(encoder, SMALL), config, classes=classes)


def batch() -> Labelled:
    g = torch.Generator().manual_seed(0)
    masks = [torch.zeros(2, 64, 64, dtype=torch.uint8), torch.zeros(1, 64, 64, dtype=torch.uint8)]
    masks[0][0, 8:20, 8:22] = 1
    masks[0][1, 30:60, 28:60] = 1
    masks[1][0, 20:40, 5:30] = 1
    boxes = [torch.zeros(2, 4), torch.zeros(1, 4)]
    classes = [torch.tensor([0, 1]), torch.tensor([1])]
    return Labelled(torch.randn(2, 3, 64, 64, generator=g), boxes, classes, masks)


def test_labels_are_layers_that_nothing_covers() -> None:
    truth = as_composites(batch())
    assert truth.owner.tolist() == [0, 0, 1] and not truth.known.any() and not truth.ignored.any()
    assert torch.equal(truth.visible, torch.cat(batch().masks or []) * 255)


def test_the_loss_is_the_objective_and_the_cross_entropy_of_the_places_of_each_class() -> None:
    model, labels = detector().train(), batch()
    torch.manual_seed(1)
    with torch.no_grad():
        outputs = model(labels)
    torch.manual_seed(1)
    with torch.no_grad():
        embeddings, places = model.decoder(model.encoder.pyramid(labels.images))
        truth = as_composites(labels)
        terms, _ = objective(model.decoder, embeddings, places, truth, ObjectiveConfig(amodal=0.0))
    assignment = assign(places, truth.visible.float() / 255, truth)
    wanted, category = [], torch.cat(labels.classes)
    for image, place in (assignment.layer >= 0).nonzero().tolist():
        logits = model.classify(places.vector[image, place]).detach()
        wanted.append(F.cross_entropy(logits, category[assignment.layer[image, place]]).detach())
    assert float(outputs["category"]) == pytest.approx(
        0.5 * float(torch.stack(wanted).mean()), rel=1e-4
    )
    total = sum(float(v) for v in (*terms.values(), outputs["category"]))
    assert float(outputs["loss"]) == pytest.approx(total, rel=1e-4)
    model(labels)["loss"].backward()
    assert all(p.grad is not None for p in model.classify.parameters())


@pytest.mark.parametrize("empty", [False, True])
def test_the_cross_entropy_of_one_class_is_0_and_every_parameter_has_a_gradient(
    empty: bool,
) -> None:
    model, labels = detector(classes=1).train(), batch()
    one = replace(labels, classes=[torch.zeros_like(c) for c in labels.classes])
    none = replace(
        labels,
        boxes=[torch.zeros(0, 4)] * 2,
        classes=[torch.zeros(0, dtype=torch.long)] * 2,
        masks=[torch.zeros(0, 64, 64, dtype=torch.uint8)] * 2,
    )
    outputs = model(none if empty else one)
    assert float(outputs["category"].detach()) == 0
    outputs["loss"].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert not torch.stack([p.grad.abs().max() for p in model.classify.parameters()]).any()


def test_processes_with_different_numbers_of_objects_equal_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, whole = detector().eval(), batch()
    counts: list[Tensor] = []
    monkeypatch.setattr(dist, "over_ranks", lambda count: counts.append(count) or count)
    with torch.no_grad():
        want = float(model(whole)["category"])
        # as the ranks' mean would be
        monkeypatch.setattr(dist, "over_ranks", lambda _: counts[-1] / 2)
        ranks = [
            float(model(part)["category"])
            for part in (
                Labelled(
                    whole.images[i : i + 1], whole.boxes[i : i + 1], whole.classes[i : i + 1], [m]
                )
                for i, m in enumerate(whole.masks or [])
            )
        ]
    assert sum(ranks) / 2 == pytest.approx(want, rel=1e-4)


def test_classes_are_learnt_and_images_of_odd_sizes_have_boxes_inside() -> None:
    model, labels = detector().train(), batch()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        model(labels)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    for m in model.modules():  # statistics of so few updates are still those of random weights
        if isinstance(m, torch.nn.BatchNorm2d):
            m.momentum = None
            m.reset_running_stats()
    with torch.no_grad():
        model(labels)
    model.eval()
    found = model.detect(labels.images[0])
    boxes = {0: (8, 8, 22, 20), 1: (28, 30, 60, 60)}
    for category, box in boxes.items():
        nearest = min(found, key=lambda d: math.dist(d.box_xyxy, box))
        assert nearest.category == category and math.dist(nearest.box_xyxy, box) < 8
        for tile in (1024, 48):  # four tiles of 48 pixels: one of them sees it whole
            model.config = replace(model.config, generate=replace(model.config.generate, tile=tile))
            left, top, right, bottom = box
            one = model.at(labels.images[0], (top + bottom) / 2, (left + right) / 2)
            assert one is not None and one.covers((top + bottom) // 2, (left + right) // 2)
            assert (
                one.category == category and math.dist(one.box_xywh[:2], box[:2]) < 8
            ) or tile == 48
    odd = model.detect(labels.images[0, :, :51, :45])
    assert odd and all(
        d.box_xyxy[0] >= 0 and d.box_xyxy[2] <= 45 and d.box_xyxy[3] <= 51 for d in odd
    )


def test_a_large_image_is_seen_by_tiles_and_classes_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = detector()
    # three tiles of 61 pixels
    model.config = replace(model.config, generate=GenerateConfig(tile=64))
    image = torch.zeros(3, 64, 150)
    image[:, 20:30, 10:20], image[:, 40:60, 50:70], image[:, 5:15, 130:140] = 1, 2, 1

    def seen(part: Tensor) -> list[Instance]:
        found = (cut_instance((part[0] == c + 1).numpy(), 0.5 + 0.1 * c) for c in (0, 1))
        return [replace(a, category=c) for c, a in enumerate(found) if a is not None]

    monkeypatch.setattr(model, "_tile", seen)
    assert [(d.box_xyxy, d.category) for d in model.detect(image)] == [
        ((50.0, 40.0, 70.0, 60.0), 1),
        ((10.0, 20.0, 20.0, 30.0), 0),
        ((130.0, 5.0, 140.0, 15.0), 0),
    ]


class Contrary:
    """Ranks last what the decoder ranks first."""

    least, faintest = 0.0, None

    def __call__(self, embeddings: Tensor, found: Sequence[Instance]) -> list[Instance]:
        other = (replace(a, score=1 - a.score) for a in found)
        return sorted(other, key=lambda a: -a.score)


def test_a_ranking_changes_scores_alone_and_the_least_score_is_a_probability() -> None:
    model, image = detector().eval(), batch().images[0]

    def found() -> dict[tuple[Any, ...], float]:
        return {
            (d.box_xyxy, d.category, d.instance.alpha.tobytes()): d.score
            for d in model.detect(image)
            if d.instance is not None
        }

    before = found()
    model.rank, model.calibration = Contrary(), Calibration(2.0, -0.5)
    after = found()
    assert len(before) > 3 and before.keys() == after.keys()
    for known, score in before.items():
        assert after[known] == pytest.approx(model.calibration.probability(1 - score), abs=1e-9)
    low, high = sorted(set(after.values()))[len(after) // 2 - 1 : len(after) // 2 + 1]
    middle = (low + high) / 2  # at a score itself the last digit of a sigmoid would decide
    c = replace(model.config.generate, score=middle)
    model.config = replace(model.config, generate=c)
    enough = {known: score for known, score in after.items() if score >= middle}
    assert found().keys() == enough.keys() and 0 < len(enough) < len(after)


def test_padding_mirrors_and_repeats_where_the_image_is_too_small() -> None:
    image = torch.arange(3 * 40 * 33).float().reshape(3, 40, 33)
    made = padded(image)
    assert made.shape == (1, 3, 64, 64) and torch.equal(made[0, :, :40, :33], image)
    assert torch.equal(made[0, :, 40], made[0, :, 38])
    tiny = padded(image[:, :5, :5])
    assert torch.equal(tiny[0, :, 5:, :5], image[:, 4:5, :5].expand(3, 27, 5))
