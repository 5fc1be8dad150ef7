"""Words of a message that depend on numbers."""


def amount(count: int, what: str) -> str:
    """'1 image', '2,000 images'."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
