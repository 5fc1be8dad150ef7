"""Scores of maps of classes: one confusion matrix, to which batches and processes add."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genseg.data.labels.class_maps import IGNORED


def confusion(
    found: Int[Tensor, "*n"], target: Int[Tensor, "*n"], classes: int
) -> Int[Tensor, "{classes} {classes}"]:
    """How many pixels of each true class (row) were found to be of each class (column); 255 in
    `target` is ignored.

    Matrices of parts add up to that of the whole. Raises ValueError for another class than 0 ...
    classes - 1.
    """
    kept = target != IGNORED
    true, said = target[kept].long(), found[kept].long()
    for what, x in (("target", true), ("found", said)):
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < classes:
            raise ValueError(
                f"{what} has classes from {int(x.min())} to {int(x.max())}; there are 0 to "
                f"{classes - 1}"
            )
    return torch.bincount(true * classes + said, minlength=classes**2).reshape(classes, classes)


def iou(matrix: Int[Tensor, "c c"]) -> Float[Tensor, "c"]:
    """Intersection over union of each class, TP / (TP + FP + FN); nan for a class that is in
    neither."""
    right = matrix.diagonal().double()
    return right / (matrix.sum(0) + matrix.sum(1) - right)


def mean_iou(matrix: Int[Tensor, "c c"]) -> float:
    """Mean over the classes that are in the target or were found; nan when there is none."""
    return float(iou(matrix).nanmean())


def pixel_accuracy(matrix: Int[Tensor, "c c"]) -> float:
    """The part of the pixels that is right; nan without pixels."""
    return float(matrix.diagonal().sum() / matrix.sum())
