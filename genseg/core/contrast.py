"""Contrastive objectives as pure functions: a loss per sample, reduced by the caller.

Embeddings come L2-normalised where it is said. All run in the precision of their inputs: call them
outside autocast (`full_precision`), because a bf16 similarity has three digits.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from genseg.core import dist


def full_precision(x: Tensor) -> torch.autocast:
    """Context in which similarities and losses are computed without autocast."""
    return torch.autocast(x.device.type, enabled=False)


def info_nce(
    q: Float[Tensor, "b d"],
    k: Float[Tensor, "b d"],
    queue: Float[Tensor, "n d"],
    *,
    temperature: float,
    negative: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b"]:
    """InfoNCE of each query against its key and a queue of negatives, all normalised (MoCo, eq. 1).

    All-equal logits give ln(n + 1). `negative` says which of the queue count for which query;
    without it all do.
    """
    positive = (q * k).sum(-1, keepdim=True)
    others = q @ queue.T
    if negative is not None:
        others = others.masked_fill(~negative, float("-inf"))
    logits = torch.cat([positive, others], dim=1) / temperature
    return logits.logsumexp(1) - logits[:, 0]


def nt_xent(
    anchors: Float[Tensor, "v b d"],
    candidates: Float[Tensor, "w n d"],
    *,
    temperature: float,
    first: int = 0,
    shared: bool = True,
) -> Float[Tensor, "v b"]:
    """NT-Xent (SimCLR, eq. 1) for any number of views, all normalised.

    Image i of `anchors` is image `first + i` of `candidates`. Every candidate view of the same
    image is a positive in a term of its own, the candidates of all other images are its negatives,
    and the terms of one anchor are averaged. `shared`: the anchor views are the first v candidate
    views, so that an anchor is not its own positive. With v = w = 2 this is the paper's loss over
    2N embeddings; all-equal embeddings give ln(2N - 1).
    """
    v, b, _ = anchors.shape
    w, n, _ = candidates.shape
    logits = torch.einsum("vbd,wnd->vbwn", anchors, candidates) / temperature
    own = torch.zeros(b, n, dtype=torch.bool, device=logits.device)
    own[torch.arange(b), first + torch.arange(b)] = True
    negatives = logits.masked_fill(own[None, :, None], float("-inf")).flatten(2).logsumexp(-1)
    positives = logits.diagonal(offset=first, dim1=1, dim2=3)[..., :b].permute(0, 2, 1)  # v b w
    terms = torch.logaddexp(positives, negatives[..., None]) - positives
    if not shared:
        return terms.mean(-1)
    others = 1 - torch.eye(v, w, device=terms.device, dtype=terms.dtype)[:, None]
    return (terms * others).sum(-1) / (w - 1)


def regression(p: Float[Tensor, "*b d"], z: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
    """2 - 2 cos(p, z): the squared distance of the normalised vectors (BYOL, eq. 2)."""
    return 2 - 2 * F.cosine_similarity(p, z, dim=-1)


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "b p"], *, epsilon: float = 0.05, iterations: int = 3
) -> Float[Tensor, "b p"]:
    """Assignments of samples to prototypes, prototypes used equally (SwAV, eq. 3 and its appendix).

    `scores` are cosines. Rows of the result sum to one; columns are equal before the last row step.
    The batch is the batch of all ranks. Scores are shifted by their largest possible value, which
    changes nothing in the result and keeps exp() finite; in float64 it is above 0 from an epsilon
    of 0.003 on.
    """
    q = ((scores.double() - 1) / epsilon).exp()
    samples = scores.shape[0] * dist.world()
    q = q / dist.total(q.sum())
    for _ in range(iterations):
        q = q / (dist.total(q.sum(0)) * scores.shape[1])
        q = q / (q.sum(1, keepdim=True) * samples)
    return (q * samples).to(scores.dtype)


def cross_entropy(
    scores: Float[Tensor, "*b p"], target: Float[Tensor, "*b p"], *, temperature: float
) -> Float[Tensor, "*b"]:
    """Cross-entropy of softmax(scores / temperature) against soft targets (SwAV, eq. 2)."""
    return -(target * F.log_softmax(scores / temperature, dim=-1)).sum(-1)
