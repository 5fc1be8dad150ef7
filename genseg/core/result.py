"""What a workflow returns."""


class Result:
    """Numbers and paths of a finished workflow. `text()` puts them into words, as its command
    prints them; so does `print`."""

    def text(self) -> str:
        """The result in words, a line or more."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.text()
