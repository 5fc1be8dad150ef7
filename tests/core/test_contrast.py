"""The losses against naive loops, closed forms and the formulas of the official codes."""

import math

import pytest
import torch
import torch.nn.functional as F

from genseg.core.contrast import cross_entropy, info_nce, nt_xent, regression, sinkhorn


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=g, dtype=torch.float64), dim=-1)


def test_info_nce_equals_a_loop_over_queries() -> None:
    q, k, queue = unit(5, 8), unit(5, 8, seed=1), unit(11, 8, seed=2)
    got = info_nce(q, k, queue, temperature=0.2)
    for i in range(5):
        scores = [float(q[i] @ k[i]) / 0.2] + [float(q[i] @ n) / 0.2 for n in queue]
        want = -scores[0] + math.log(sum(math.exp(s) for s in scores))
        assert float(got[i]) == pytest.approx(want, abs=1e-12)


def test_info_nce_equals_the_official_cross_entropy_with_label_zero() -> None:
    q, k, queue = unit(6, 8), unit(6, 8, seed=1), unit(9, 8, seed=2)
    logits = (
        torch.cat(
            [torch.einsum("nc,nc->n", q, k)[:, None], torch.einsum("nc,ck->nk", q, queue.T)], 1
        )
        / 0.07
    )
    want = F.cross_entropy(logits, torch.zeros(6, dtype=torch.long), reduction="none")
    torch.testing.assert_close(info_nce(q, k, queue, temperature=0.07), want)


def test_info_nce_of_equal_logits_is_log_of_queue_plus_one() -> None:
    same = unit(1, 8)
    got = info_nce(same.expand(3, -1), same.expand(3, -1), same.expand(20, -1), temperature=0.2)
    torch.testing.assert_close(got, torch.full((3,), math.log(21), dtype=torch.float64))


def test_info_nce_counts_only_the_negatives_of_each_query() -> None:
    q, k, queue = unit(4, 8), unit(4, 8, seed=1), unit(9, 8, seed=2)
    negative = torch.rand(4, 9, generator=torch.Generator().manual_seed(3)) < 0.5
    negative[3] = False
    got = info_nce(q.requires_grad_(), k, queue, temperature=0.2, negative=negative)
    for i in range(4):
        want = info_nce(q[i : i + 1], k[i : i + 1], queue[negative[i]], temperature=0.2)
        torch.testing.assert_close(got[i : i + 1], want)
    assert float(got[3].detach()) == 0  # nothing to tell it from
    got.sum().backward()
    assert q.grad is not None and q.grad.isfinite().all() and not q.grad[3].any()
    all_of_them = torch.ones(4, 9, dtype=torch.bool)
    torch.testing.assert_close(
        info_nce(q, k, queue, temperature=0.2, negative=all_of_them),
        info_nce(q, k, queue, temperature=0.2),
    )


def naive_nt_xent(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR, eq. 1, literally: z holds 2N rows, row i and row i + N are one image."""
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        denominator = sum(
            math.exp(float(z[i] @ z[m]) / temperature) for m in range(2 * n) if m != i
        )
        losses.append(-math.log(math.exp(float(z[i] @ z[j]) / temperature) / denominator))
    return torch.tensor(losses, dtype=torch.float64)


def test_nt_xent_equals_the_papers_loop() -> None:
    z = unit(2, 6, 8)
    got = nt_xent(z, z, temperature=0.5)
    torch.testing.assert_close(got.flatten(), naive_nt_xent(z.flatten(0, 1), 0.5))


def test_nt_xent_of_equal_embeddings_is_log_of_two_n_minus_one() -> None:
    z = unit(1, 1, 8).expand(2, 7, -1)
    torch.testing.assert_close(
        nt_xent(z, z, temperature=0.1), torch.full((2, 7), math.log(13), dtype=torch.float64)
    )


def test_nt_xent_of_a_part_of_the_batch_is_that_part_of_the_whole() -> None:
    z = unit(2, 8, 4)
    whole = nt_xent(z, z, temperature=0.3)
    part = nt_xent(z[:, 4:], z, temperature=0.3, first=4)
    torch.testing.assert_close(part, whole[:, 4:])


def test_nt_xent_of_further_views_equals_a_loop() -> None:
    small, large = unit(3, 5, 4, seed=3), unit(2, 5, 4)
    got = nt_xent(small, large, temperature=0.3, shared=False)
    for v in range(3):
        for i in range(5):
            terms = []
            for w in range(2):
                positive = math.exp(float(small[v, i] @ large[w, i]) / 0.3)
                others = sum(
                    math.exp(float(small[v, i] @ large[x, m]) / 0.3)
                    for x in range(2)
                    for m in range(5)
                    if m != i
                )
                terms.append(-math.log(positive / (positive + others)))
            assert float(got[v, i]) == pytest.approx(sum(terms) / 2, abs=1e-12)


def test_nt_xent_does_not_care_for_the_order_of_images() -> None:
    z, order = unit(2, 6, 8), torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(
        nt_xent(z[:, order], z[:, order], temperature=0.2), nt_xent(z, z, temperature=0.2)[:, order]
    )


def test_regression_is_the_squared_distance_of_unit_vectors() -> None:
    p, z = torch.randn(4, 8, dtype=torch.float64), torch.randn(4, 8, dtype=torch.float64)
    want = (F.normalize(p, dim=-1) - F.normalize(z, dim=-1)).square().sum(-1)
    torch.testing.assert_close(regression(p, z), want)
    torch.testing.assert_close(regression(p, 3 * p), torch.zeros(4, dtype=torch.float64))


def official_sinkhorn(out: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """The published formula, step by step, in float64 (SwAV, appendix A.1)."""
    q = torch.exp(out / epsilon).T
    k, b = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / k
        q = q / q.sum(0, keepdim=True) / b
    return (q * b).T


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.25, 1), (0.05, 100)])
def test_sinkhorn_equals_the_published_formula(epsilon: float, iterations: int) -> None:
    scores = unit(12, 8) @ unit(5, 8, seed=1).T
    want = official_sinkhorn(scores, epsilon, iterations)
    torch.testing.assert_close(sinkhorn(scores, epsilon=epsilon, iterations=iterations), want)


def test_sinkhorn_rows_sum_to_one_and_prototypes_are_used_equally() -> None:
    q = sinkhorn(unit(40, 8) @ unit(10, 8, seed=1).T, epsilon=0.25, iterations=200)
    torch.testing.assert_close(q.sum(1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(q.sum(0), torch.full((10,), 4.0, dtype=torch.float64))


def test_sinkhorn_stays_finite_in_float32_at_the_extremes() -> None:
    scores = torch.full((6, 4), -1.0)
    scores[:, 0] = 1.0
    q = sinkhorn(scores)
    assert q.isfinite().all()
    torch.testing.assert_close(q.sum(1), torch.ones(6))


def test_cross_entropy_against_hard_targets_is_torchs() -> None:
    scores, labels = torch.randn(7, 5, dtype=torch.float64), torch.tensor([0, 4, 2, 2, 1, 3, 0])
    want = F.cross_entropy(scores / 0.1, labels, reduction="none")
    torch.testing.assert_close(
        cross_entropy(scores, F.one_hot(labels, 5).double(), temperature=0.1), want
    )


def test_sharp_assignments_of_a_clustered_batch_stay_finite() -> None:
    """In float32 whole prototypes underflowed: 0 / 0."""
    torch.manual_seed(0)
    z = F.normalize(torch.randn(1, 16) + 0.05 * torch.randn(64, 16), dim=1)
    scores = z @ F.normalize(torch.randn(300, 16), dim=1).T
    for epsilon in (0.003, 0.01, 0.05):
        q = sinkhorn(scores, epsilon=epsilon)
        assert q.dtype == torch.float32 and q.isfinite().all()
        torch.testing.assert_close(q.sum(1), torch.ones(64))
        logs = scores.double() / epsilon
        for _ in range(3):
            logs = logs - logs.logsumexp(0)
            logs = logs - logs.logsumexp(1, keepdim=True)
        torch.testing.assert_close(q, logs.exp().float(), rtol=1e-4, atol=1e-7)
