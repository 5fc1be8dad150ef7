"""The quantised code against loops, and what becomes of centres that nobody needs."""

import torch
from torch import Tensor

from genseg.energies.draws import Draws
from genseg.energies.priors import Quantised

DRAWS = Draws(0, 0, [0])


def image(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.long)


def prior(centres: int = 4, commitment: float = 0.25) -> Quantised:
    """With centres that are all in use, each for one code a step."""
    torch.manual_seed(0)
    made = Quantised(3, centres=centres, commitment=commitment)
    made.counts.fill_(1.0)
    made.sums.copy_(made.centres)
    return made


def test_a_quantised_code_is_the_nearest_centre() -> None:
    made, x = prior(), torch.randn(10, 3)
    coded = made(x, image(10))
    for code, vector, cost in zip(x, coded.vector, coded.cost, strict=True):
        squared = [float((code - c).square().sum()) for c in made.centres]
        nearest = squared.index(min(squared))
        torch.testing.assert_close(vector, made.centres[nearest])
        torch.testing.assert_close(cost, torch.tensor(0.25 * squared[nearest]))


def test_the_gradient_passes_the_choice_by() -> None:
    made, x = prior(commitment=0.5), torch.randn(6, 3, requires_grad=True)
    coded = made(x, image(6))
    (slope,) = torch.autograd.grad((coded.vector * torch.arange(3.0)).sum(), x, retain_graph=True)
    torch.testing.assert_close(slope, torch.arange(3.0).expand(6, 3))
    (slope,) = torch.autograd.grad(coded.cost.sum(), x)
    torch.testing.assert_close(slope, (x - coded.vector).detach())


def test_centres_are_moving_averages_of_their_codes() -> None:
    made, steps = (
        prior(),
        [torch.randn(12, 3, generator=torch.Generator().manual_seed(i)) for i in range(5)],
    )
    centres, counts, sums = made.centres.clone(), made.counts.clone(), made.sums.clone()
    for x in steps:
        coded = made(x, image(12), DRAWS)
        nearest = [int((code - centres).square().sum(1).argmin()) for code in x]
        torch.testing.assert_close(coded.vector, centres[nearest])  # those before the move
        for k in range(4):
            mine = x[[i for i in range(12) if nearest[i] == k]]
            counts[k] = 0.99 * counts[k] + 0.01 * len(mine)
            sums[k] = 0.99 * sums[k] + 0.01 * mine.sum(0)
            centres[k] = sums[k] / counts[k]
        torch.testing.assert_close(made.centres, centres)
        torch.testing.assert_close(made.counts, counts)


def test_centres_stay_where_they_are_without_draws() -> None:
    made = prior()
    before = {name: x.clone() for name, x in made.state_dict().items()}
    made(torch.randn(10, 3), image(10))
    assert all(x.equal(before[name]) for name, x in made.state_dict().items())


def test_a_centre_that_nobody_needs_begins_anew_at_a_code() -> None:
    made = prior()
    made.counts[2] = 0.005
    made.centres[2] = made.sums[2] = 100.0
    x = torch.randn(5, 3)
    made(x, image(5), DRAWS)
    torch.testing.assert_close(made.centres[2], x[2])
    assert float(made.counts[2]) == 1.0


def test_all_centres_begin_at_codes_but_one_which_begins_at_their_mean() -> None:
    """That which all are nearest to at first."""
    torch.manual_seed(0)
    made, x = Quantised(3, centres=8, commitment=0.25), torch.randn(20, 3) + 50
    made(x, image(20), DRAWS)
    first = (made.centres - x.mean(0)).norm(dim=1) < 1e-3
    assert int(first.sum()) == 1
    torch.testing.assert_close(made.centres[~first], x[:8][~first])


def test_without_a_code_no_centre_begins_anew() -> None:
    torch.manual_seed(0)
    made = Quantised(3, centres=8, commitment=0.25)
    coded = made(torch.zeros(0, 3), image(0), DRAWS)
    assert coded.vector.shape == (0, 3) and coded.cost.shape == (0,)
    assert made.centres.isfinite().all()


def test_two_codes_find_their_own_centres() -> None:
    """Blobs far from each other: every centre ends in one of them, at its mean."""
    g = torch.Generator().manual_seed(0)
    at = torch.tensor([[5.0, 0.0, 0.0], [-5.0, 0.0, 0.0]])
    torch.manual_seed(0)
    made = Quantised(3, centres=2, commitment=0.25)
    for _ in range(400):
        x = at.repeat(10, 1) + 0.1 * torch.randn(20, 3, generator=g)
        made(x, image(20), DRAWS)
    first, second = sorted(made.centres.tolist(), reverse=True)
    torch.testing.assert_close(torch.tensor([first, second]), at, atol=0.05, rtol=0)
