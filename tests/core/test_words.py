"""Words that depend on numbers."""

from genseg.core.words import amount


def test_one_is_no_plural() -> None:
    assert [amount(n, "image") for n in (0, 1, 2, 5704)] == ["0 images", "1 image", "2 images", "5,704 images"]
