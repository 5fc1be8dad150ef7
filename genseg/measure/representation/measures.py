"""The measures of a representation: what each is called, and whether more of it is better."""

from dataclasses import dataclass
from typing import Literal

FACTOR, OVERLAP = "factor", "overlap"  # begin the names of measures of label sets


@dataclass(frozen=True)
class Measure:
    """What a measure is called in a table, and whether more or less of it is better."""

    words: str
    better: Literal["higher", "lower", "-"] = "-"


# by family; those of a label set are FACTOR and its name, those of two OVERLAP and both
MEASURES: dict[str, dict[str, Measure]] = {
    "smoothness": {
        "change_noise": Measure("relative change by noise", "lower"),
        "change_shift": Measure("relative change by shifts", "lower"),
        "change_crop": Measure("relative change by crops", "lower"),
        "alignment": Measure("alignment of two crops", "lower"),
        "uniformity": Measure("uniformity on the sphere", "lower"),
        "interpolation": Measure("accuracy between neighbours", "higher"),
    },
    "clusters": {
        "knn": Measure("accuracy of 20 neighbours", "higher"),
        "linear": Measure("accuracy of a linear probe", "higher"),
        "silhouette": Measure("silhouette of classes", "higher"),
        "nmi": Measure("NMI of clusters and classes", "higher"),
        "ari": Measure("ARI of clusters and classes", "higher"),
        "fisher_ratio": Measure("Fisher ratio", "higher"),
        "stability": Measure("stability of clusters", "higher"),
    },
    "compactness": {
        "variance_dimensions": Measure("dimensions of 95 % of variance"),
        "intrinsic_dimension": Measure("intrinsic dimension (TwoNN)"),
        "pca_dimensions": Measure("dimensions of 95 % of accuracy", "lower"),
        "lidar": Measure("LiDAR", "higher"),
    },
    "independence and rank": {
        "correlation": Measure("correlation of dimensions", "lower"),
        "total_correlation": Measure("total correlation, nats", "lower"),
        "effective_rank": Measure("effective rank (RankMe)", "higher"),
        "participation_ratio": Measure("participation ratio"),
        "spectrum_exponent": Measure("exponent of the spectrum"),
        "spread": Measure("spread on the sphere", "higher"),
    },
}
