"""What a workflow returns."""

from abc import ABC, abstractmethod


class Result(ABC):
    """Numbers and paths of a finished workflow. `text()` puts them into words, as its command
    prints them; so does `print`."""

    @abstractmethod
    def text(self) -> str:
        """The result in words, a line or more."""

    def __str__(self) -> str:
        return self.text()
