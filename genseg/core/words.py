"""Words of a message that depend on numbers."""


def rate(number: float) -> str:
    """A number of things a second: whole, of a few also their tenths."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def amount(count: int, what: str) -> str:
    """'1 image', '2,000 images'."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
