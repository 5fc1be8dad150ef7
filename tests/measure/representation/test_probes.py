"""Ridge probes against a loop that leaves each image out; subspaces against known angles; and all
measures of one set."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from genseg.measure.representation.factors import (
    factor_scores,
    overlap,
    principal_cosines,
    subspace,
    subspace_overlaps,
)
from genseg.measure.representation.measured import (
    linearly_right,
    measure_embeddings,
    quick_measures,
)
from genseg.measure.representation.measures import MEASURES
from genseg.measure.representation.ridge import (
    explained,
    principal,
    ridge,
    right_by_dimensions,
    right_of,
    sufficient_dimensions,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("m", [0, 2])
def test_each_image_is_predicted_by_a_fit_to_all_others(m: int) -> None:
    x = normal(25, 4) @ torch.diag(torch.tensor([3.0, 2, 1, 0.1]).double()) + 5
    y = normal(25, 2, seed=1) + x[:, :2]
    p = principal(x)
    fitted = ridge(p, y, dimensions=m)
    z = (x @ p.axes)[:, : m or None].numpy()
    for i in (0, 7, 24):
        rest = np.arange(25) != i
        # scikit-learn's penalty is of sums; axes and penalty are those of all images
        model = Ridge(alpha=25 * fitted.penalty).fit(z[rest], y.numpy()[rest])
        np.testing.assert_allclose(fitted.predicted[i], model.predict(z[i : i + 1])[0], rtol=1e-6)
    whole = Ridge(alpha=25 * fitted.penalty).fit(z, y.numpy())
    axes = p.axes[:, : m or None].numpy()
    np.testing.assert_allclose(fitted.weights, axes @ whole.coef_.T, rtol=1e-5, atol=1e-9)


def test_accuracy_needs_as_many_principal_dimensions_as_tell_the_classes_apart() -> None:
    labels = torch.arange(200) % 2
    x = normal(200, 8) * torch.tensor([9.0, 8, 7, 6, 1, 1, 1, 1]).double()
    x[:, 4] = 5 * (2.0 * labels - 1) + 0.3 * normal(200, seed=3)  # the fifth axis by variance
    tried, right = right_by_dimensions(principal(x), labels)
    assert tried == [1, 2, 3, 4, 6, 8]
    accuracies = right.mean(1)
    assert (accuracies[:4] < 0.75).all() and (accuracies[4:] > 0.98).all()
    assert sufficient_dimensions(tried, accuracies) == 6
    assert right_of(principal(x), labels + 7).mean() == accuracies[-1], "names do not matter"


def test_what_a_factor_explains_has_a_known_share() -> None:
    x = normal(3000, 3)
    y = 2 * x[:, :1] + normal(3000, 1, seed=1)  # 4 of 5 parts of its variance
    scores, _ = factor_scores(principal(x), {"y": y, "noise": normal(3000, 2, seed=2)})
    assert scores["y"].value == pytest.approx(0.8, abs=0.02) and scores["y"].error < 0.02
    assert scores["noise"].value == pytest.approx(0, abs=0.01)
    assert explained(y, y, torch.arange(3000)) == 1
    still = y.mean().expand(3000, 1)
    assert explained(still, y, torch.arange(3000)) == pytest.approx(0, abs=1e-12)
    # a number that is the same for all is not known by anything
    half, _ = factor_scores(principal(x), {"y": torch.cat([y, torch.full_like(y, 0.3)], 1)})
    assert half["y"].value == pytest.approx(scores["y"].value)
    same, _ = factor_scores(principal(x), {"y": torch.full((3000, 1), 0.3)})
    assert math.isnan(same["y"].value)


def test_principal_angles_of_known_planes() -> None:
    e = torch.eye(4).double()
    c, s = math.cos(0.3), math.sin(0.3)
    tilted = torch.stack([e[0], c * e[1] + s * e[2]], 1)
    cosines = principal_cosines(e[:, :2], tilted)
    assert cosines.tolist() == pytest.approx([1, c])
    assert overlap(e[:, :2], tilted) == pytest.approx((1 + c * c) / 2)
    assert overlap(e[:, :1], e[:, :3]) == pytest.approx(1)
    assert overlap(e[:, :1], e[:, 2:]) == pytest.approx(0)
    assert subspace(torch.stack([e[0], 2 * e[0], e[1]], 1)).shape == (4, 2)


def test_factors_on_the_same_and_on_other_directions() -> None:
    x = normal(800, 6)
    place, colour = x[:, :2] + 0.1 * normal(800, 2, seed=1), x[:, 2:3] + 0.1 * normal(800, 1)
    kind = (x[:, 0] + x[:, 1] > 0).long()
    factors = {"place": place, "colour": colour, "kind": kind}
    scores, penalties = factor_scores(principal(x), factors)
    assert scores["kind"].value > 0.9 and scores["place"].value > 0.95
    found = subspace_overlaps(x, factors, penalties)
    assert found["place", "kind"].value > 0.99 and found["place", "colour"].value < 0.02
    assert found["colour", "kind"].value < 0.02


def clusters(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(n) % 3
    return (torch.eye(3, 6).double()[labels] * 8 + normal(n, 6)).float(), labels


def test_all_measures_of_a_set_and_what_is_left_out_of_a_poorer_one() -> None:
    x, labels = clusters(90)
    views = {k: x[:40, None] + 0.1 * normal(40, 2, 6).float() for k in ("noise", "shift", "crop")}
    factors = {"class": labels, "size": x[:, 4:5]}
    given = {"views": views, "viewed": torch.arange(40)}
    full = measure_embeddings(x, labels=labels, factors=factors, **given)
    known = {name for family in MEASURES.values() for name in family}
    named = {"factor_class", "factor_size", "overlap_class_size"}
    assert set(full.measures) == known | named
    m = full.measures
    assert all(math.isfinite(e.value) and math.isfinite(e.error) for e in m.values())
    for name in ("knn", "linear", "interpolation", "nmi", "factor_class", "factor_size"):
        assert m[name].value > 0.95, name
    assert sum(full.spectrum) == pytest.approx(1) and full.accuracies[-1][0] == 6
    poor = measure_embeddings(x)
    assert not {"knn", "lidar", "factor_class", "change_noise"} & set(poor.measures)
    assert poor.measures["stability"].value < 1 and poor.measures["spread"] == m["spread"]
    again = measure_embeddings(x, labels=labels, factors=factors, **given)
    assert again == full


def test_classes_of_one_image_count_as_no_class_and_few_images_leave_out_their_determinant() -> (
    None
):
    x, labels = clusters(60)
    lonely = torch.cat([x, x[:1] + 30]), torch.cat([labels, torch.tensor([3])])
    found = measure_embeddings(lonely[0], labels=lonely[1]).measures
    assert found["knn"].value == measure_embeddings(x, labels=labels).measures["knn"].value == 1
    assert "knn" not in measure_embeddings(x, labels=torch.zeros(60).long()).measures
    assert "knn" not in measure_embeddings(x, labels=torch.arange(60)).measures
    few = measure_embeddings(normal(40, 20).float()).measures
    assert "total_correlation" not in few and "effective_rank" in few


def test_a_collapsed_set_is_told_by_its_spread_and_broken_ones_are_refused() -> None:
    found = measure_embeddings(torch.ones(30, 5), labels=torch.arange(30) % 2).measures
    assert found["spread"].value == pytest.approx(0, abs=1e-6)
    assert found["effective_rank"].value == pytest.approx(1, abs=1e-4)
    assert not {"knn", "correlation", "intrinsic_dimension"} & set(found)
    with pytest.raises(ValueError, match="15 images are too few to measure embeddings by; give 16"):
        measure_embeddings(torch.ones(15, 5))
    broken = torch.ones(30, 5)
    broken[3, 2] = torch.nan
    with pytest.raises(ValueError, match="embeddings of 1 of 30 images are not finite"):
        measure_embeddings(broken)


def test_images_that_are_equal_have_measures_without_a_word() -> None:
    """Of three different images k-means has three clusters, whatever is asked for."""
    x, labels = normal(3, 6).float().repeat(30, 1), torch.arange(90) % 3
    found = measure_embeddings(x).measures
    assert found["stability"].value == pytest.approx(1) and "intrinsic_dimension" not in found
    assert measure_embeddings(x, labels=labels).measures["nmi"].value == pytest.approx(1)


def test_a_linear_probe_asks_each_image_once_and_is_no_better_than_chance_on_noise() -> None:
    x, labels = clusters(61)
    assert linearly_right(x, labels).mean() == 1
    noise = linearly_right(normal(400, 3).float(), torch.arange(400) % 2)
    assert noise.mean() == pytest.approx(0.5, abs=0.1) and set(noise.tolist()) == {0, 1}


def test_the_guide_has_each_measure_and_what_is_better_of_it() -> None:
    guide = Path(__file__).parents[3] / "docs" / "guides" / "representations.md"
    table = guide.read_text().split("| name | what it is |")[1].split("\n\n")[0]
    rows = [row.rsplit("|", 4) for row in table.splitlines()[2:]]
    told = {
        name: better.strip().replace("–", "-")
        for first, *_, better, _ in rows
        for name in re.findall(r"`(\w+)`", first.split(" | ")[0])
    }
    known = {name: m.better for family in MEASURES.values() for name, m in family.items()}
    assert told == {**known, "factor_NAME": "higher", "overlap_A_B": "-"}


def test_what_training_logs_is_what_is_measured_of_the_same_embeddings() -> None:
    x, _ = clusters(60)
    full, quick = measure_embeddings(x).measures, quick_measures(x)
    assert len(quick) == 5
    for name, value in quick.items():
        assert value == pytest.approx(full[name].value, rel=1e-6), name
    assert quick_measures(torch.ones(8, 4)) == {"participation_ratio": 0, "uniformity": 0}
