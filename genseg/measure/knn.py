"""Weighted k-nearest neighbours on frozen features."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Accuracy:
    """Parts of the test images that are right: of all, and averaged over classes."""

    top1: float
    balanced: float


@torch.no_grad()
def knn(
    train: Float[Tensor, "n d"],
    train_labels: Int[Tensor, "n"],
    test: Float[Tensor, "m d"],
    *,
    k: int = 20,
    temperature: float = 0.1,
    leave_one_out: bool = False,
) -> Int[Tensor, "m"]:
    """Classes of `test` by the k nearest in `train`, each voting exp(cosine / temperature) (Wu et
    al., 2018, 3.4).

    k is reduced to the number of training images. `leave_one_out`: `test` is `train`, and no image
    votes for itself.
    """
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    classes, k = int(train_labels.max()) + 1, min(k, len(train) - leave_one_out)
    found = []
    for first, part in zip(range(0, len(test), 1024), test.split(1024), strict=True):
        similarity = part @ train.T
        if leave_one_out:
            similarity.diagonal(first).fill_(-torch.inf)
        found.append(votes(similarity, train_labels, classes=classes, k=k, temperature=temperature))
    return torch.cat(found)


def votes(
    similarity: Float[Tensor, "m n"],
    labels: Int[Tensor, "n"],
    *,
    classes: int,
    k: int,
    temperature: float,
) -> Int[Tensor, "m"]:
    """The class with most votes of the k images of the largest cosine, in each row."""
    similarity, nearest = similarity.topk(k, dim=1)
    score = torch.zeros(len(similarity), classes, device=similarity.device)
    return score.scatter_add_(1, labels[nearest], (similarity / temperature).exp()).argmax(1)


def accuracy(predicted: Int[Tensor, "m"], labels: Int[Tensor, "m"]) -> Accuracy:
    """Top-1 and balanced accuracy; classes without a test image do not count."""
    right = (predicted == labels).float()
    per_class = [right[labels == c].mean() for c in labels.unique()]
    return Accuracy(top1=float(right.mean()), balanced=float(torch.stack(per_class).mean()))
