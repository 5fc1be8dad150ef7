"""Tests run with types and shapes checked."""

from collections.abc import Callable
from dataclasses import dataclass

import beartype
import checked
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

from genseg.core.contrast import info_nce
from genseg.data.instances.instance import Instance

check = checked.jaxtyped(typechecker=beartype.beartype)


@check
def product(
    a: Float[Tensor, "n d"], b: Float[Tensor, " d"], wide: bool = False
) -> Float[Tensor, " n"]:
    return (a @ b)[None] if wide else a @ b


@check
@dataclass
class Pair:
    one: Float[Tensor, " n"]
    two: list[Float[Tensor, " n"]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: product(torch.ones(2, 3), torch.ones(2)),  # no letter is two sizes
        lambda: product(torch.ones(2, 3), torch.ones(3), wide=True),  # also not in the result
        lambda: product(torch.ones(2, 3), torch.ones(3), wide=1),
        lambda: product(torch.ones(2, 3).long(), torch.ones(3)),
        lambda: Pair(torch.ones(2), [torch.ones(3)]),
        # and in genseg
        lambda: info_nce(torch.ones(2, 3), torch.ones(2, 4), torch.ones(5, 3), temperature=0.5),
        lambda: Instance(torch.ones(2, 3), 0, 0),
    ],
)
def test_a_wrong_call_is_found(wrong: Callable[[], object]) -> None:
    with pytest.raises(BeartypeCallHintViolation):
        wrong()


def test_a_letter_may_be_another_size_in_another_call() -> None:
    for n in (2, 3):
        assert product(torch.ones(n, 4), torch.ones(4)).tolist() == [4.0] * n
        assert len(Pair(torch.ones(n), [torch.ones(n)]).two) == 1
