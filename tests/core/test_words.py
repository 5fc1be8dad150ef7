"""Words that depend on numbers."""

from genseg.core.words import amount, rate


def test_one_is_no_plural() -> None:
    assert [amount(n, "image") for n in (0, 1, 2, 5704)] == [
        "0 images",
        "1 image",
        "2 images",
        "5,704 images",
    ]


def test_a_slow_rate_is_not_none() -> None:
    assert [rate(n) for n in (0.034, 0.5, 9.96, 12.4)] == ["0.034", "0.5", "10", "12"]
