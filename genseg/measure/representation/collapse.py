"""Whether the embeddings of a run have collapsed, told without labels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def spread(features: Float[Tensor, "b d"]) -> float:
    """Standard deviation of the normalised embeddings per dimension, times sqrt(d).

    1: spread evenly over the sphere; 0: all equal (SimSiam, sec. 4.1).
    """
    z = F.normalize(features.float(), dim=1)
    return float((z - z.mean(0)).square().mean(0).sqrt().mean() * features.shape[1] ** 0.5)


def verdict(
    *, loss: float, trivial: float, spread: float, rank: float, progress: float, temperature: bool
) -> str | None:
    """A plain word when a run has collapsed or has not left its method's trivial value; None when
    neither.

    temperature: whether the method has one that can be lowered
    """
    if spread < 0.05 or rank < 1.5:
        return (
            f"collapsed: all images get nearly the same embedding (spread {spread:.3f}, effective "
            f"rank {rank:.1f}). Lower the learning rate, lengthen the warm-up, or use a larger "
            "batch."
        )
    if progress > 0.1 and abs(loss - trivial) < 0.01 * trivial:
        return (
            f"not learning: the loss {loss:.3f} is that of a network that knows nothing "
            f"({trivial:.3f}). Raise the learning "
            f"rate,{' lower method.temperature,' if temperature else ''} or weaken the views."
        )
    return None
