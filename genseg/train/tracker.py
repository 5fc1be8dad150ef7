"""Trackers of experiments, through Accelerate's own: they show the lines of metrics.jsonl.

Nothing is sent anywhere unless the environment says so: TensorBoard's files, Weights and Biases'
offline runs and MLflow's store lie in the run directory.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any, Literal

from accelerate import Accelerator

from genseg.core.names import TENSORBOARD

TrackerName = Literal["none", "tensorboard", "wandb", "mlflow"]
# what to import, and what to install for it
PACKAGES = {
    "tensorboard": ("tensorboard", "'genseg[tensorboard]'"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
}
PROJECT = "genseg"
WANDB_MODE, MLFLOW_STORE = "WANDB_MODE", "MLFLOW_TRACKING_URI"  # of the environment


def check_tracker(name: TrackerName) -> None:
    """Raise ValueError for a tracker that is not installed, with what to install."""
    if name == "none":
        return
    module, wanted = PACKAGES[name]
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"tracker={name} needs it installed: pip install {wanted}")


def start_tracker(accelerator: Accelerator, name: TrackerName, run: Path, step: int) -> None:
    """Begin to track a run that stands at a step; nothing for none. All processes call it.

    wandb: offline below the run, unless WANDB_MODE says otherwise; `wandb sync` sends it later
    mlflow: a store below the run, unless MLFLOW_TRACKING_URI names one
    """
    if name == "none":
        return
    options: dict[str, Any] = {}
    if name == "tensorboard":
        # what a kill has left of later steps comes again
        options = {"purge_step": step + 1}
    elif name == "wandb":
        mode = os.environ.get(WANDB_MODE, "offline")
        options = {"dir": str(run), "name": run.name, "group": run.name, "mode": mode}
    elif name == "mlflow":
        os.environ.setdefault(MLFLOW_STORE, f"sqlite:///{run.absolute() / 'mlflow.db'}")
        options = {"run_name": run.name, "logging_dir": str(run.absolute() / "mlflow")}
    project = TENSORBOARD if name == "tensorboard" else PROJECT
    accelerator.init_trackers(project, init_kwargs={name: options})
