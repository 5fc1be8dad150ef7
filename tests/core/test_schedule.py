"""Schedules against the papers' formulas; durations in every unit."""

import math

import pytest

from genseg.core.schedule import Plan, check_durations, cosine, ema_momentum, plan, scaled_lr


def test_a_duration_is_the_same_in_every_unit() -> None:
    p = Plan(images=1000, batch=100, total=200)
    assert (
        p.steps("5 epochs")
        == p.steps("50 steps")
        == p.steps("5000 images")
        == p.steps("25 percent")
        == 50
    )
    assert p.progress("5 epochs") == 0.25
    assert p.steps("1 epoch") == 10
    assert p.steps("2e3 images") == 20
    assert p.steps("0 steps") == 0


WRONG = ["ten epochs", "10", "10 weeks", "", "-1 epochs", "1.2.3 steps", ". steps", "1e999 steps"]


@pytest.mark.parametrize("text", WRONG)
def test_a_duration_that_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and epochs, steps, images or percent"):
        Plan(images=10, batch=1, total=1).steps(text)
    with pytest.raises(ValueError, match=r"^warmup=.*such as warmup='10 epochs'"):
        check_durations(every="1 epoch", warmup=text)


def test_the_incomplete_last_batch_of_an_epoch_is_dropped() -> None:
    assert plan(images=1050, batch=100, epochs=3, steps=None, samples=None) == Plan(
        images=1050, batch=100, total=30
    )
    assert plan(images=1050, batch=100, epochs=None, steps=7, samples=None).total == 7
    few = plan(images=4, batch=100, epochs=3, steps=None, samples=None, again=True)
    assert (few.total, few.steps_per_epoch, few.steps("2 epochs")) == (3, 1, 2)
    assert plan(images=1050, batch=100, epochs=None, steps=None, samples=5000).total == 50


def test_a_length_given_twice_or_never_is_an_error() -> None:
    with pytest.raises(ValueError, match="epochs=1 and steps=2"):
        plan(images=10, batch=1, epochs=1, steps=2, samples=None)
    with pytest.raises(ValueError, match="none of them"):
        plan(images=10, batch=1, epochs=None, steps=None, samples=None)


def test_a_batch_larger_than_the_data_names_one_that_fits() -> None:
    with pytest.raises(ValueError, match="use batch_size=50"):
        plan(images=100, batch=256, epochs=1, steps=None, samples=None)
    with pytest.raises(ValueError, match="use batch_size=2"):  # a batch of 1 is refused elsewhere
        plan(images=3, batch=256, epochs=1, steps=None, samples=None)
    with pytest.raises(ValueError, match="give two or more"):
        plan(images=1, batch=256, epochs=1, steps=None, samples=None)


def test_cosine_ends_where_it_should() -> None:
    assert cosine(0.0, 3.0, 1.0) == 3.0
    assert cosine(0.5, 3.0, 1.0) == pytest.approx(2.0)
    assert cosine(1.0, 3.0, 1.0) == 1.0


@pytest.mark.parametrize("k", [0, 1, 250, 500, 999, 1000])
def test_byols_momentum_is_the_papers_formula(k: int) -> None:
    want = 1 - (1 - 0.996) * (math.cos(math.pi * k / 1000) + 1) / 2
    assert ema_momentum(k / 1000, 0.996) == pytest.approx(want, abs=1e-15)


def test_learning_rate_scales_with_the_batch() -> None:
    assert scaled_lr(0.2, 4096, "linear") == pytest.approx(3.2)
    assert scaled_lr(0.2, 1024, "sqrt") == pytest.approx(0.4)
    assert scaled_lr(0.2, 1024, "none") == 0.2
