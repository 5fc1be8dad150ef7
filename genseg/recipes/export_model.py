"""A fine-tuned model for other libraries: torchvision, segmentation-models-pytorch, ONNX."""

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file

from genseg.nn.weights import whole
from genseg.recipes.export import refuse_run, save_pth
from genseg.transfer.detector import Detector
from genseg.transfer.predictor import BEST_NAME, MODEL_NAME, Predictor, load_predictor
from genseg.transfer.segmenter import Segmenter

OPSET = 18


def is_finetuned(run: Path) -> bool:
    """Whether a run directory is one of genseg finetune."""
    return any((run / name).is_file() for name in (BEST_NAME, MODEL_NAME))


def export_model(run: Path, out: Path) -> str:
    """Write the model of `run` to `out` and say what was written, and how it is read.

    `out` ending in .pth or .safetensors: a state dict; that of a detector is plain torchvision's. Ending in .onnx:
    semantic models. A folder: semantic models as smp's `save_pretrained`. Raises ValueError for what does not go.
    """
    predictor, _ = load_predictor(run)
    model = predictor.model
    inner = model.model if isinstance(model, Detector | Segmenter) else model
    refuse_run(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix in (".pth", ".safetensors"):
        tensors = {name: x.contiguous().clone() for name, x in inner.state_dict().items()}
        if out.suffix == ".pth":
            save_pth(tensors, out)
        else:
            with whole(out) as temporary:
                save_file(tensors, temporary)
        return f"{len(tensors)} tensors of {run} in {out}{_how(predictor)}"
    if not isinstance(model, Segmenter):
        what = "ONNX" if out.suffix == ".onnx" else "a folder"
        raise ValueError(
            f"--out {out}: {what} is for semantic models. torch's exporter cannot follow how torchvision's "
            "detectors choose boxes; write a state dict (--out FILE.pth), which loads into torchvision. The older "
            "torch.onnx.export(..., dynamo=False) then writes ONNX for images of one size"
        )
    if out.suffix == ".onnx":
        _write_onnx(model, out)
        return f"{out}: input `image` (batch, 3, height, width), normalised, sides a multiple of 32; output `logits`"
    if out.suffix:
        raise ValueError(f"--out {out}: end it in .pth, .safetensors or .onnx, or name a folder for smp")
    model.model.save_pretrained(out)
    return f"{out}: segmentation_models_pytorch.from_pretrained({str(out)!r}) reads it"


def _how(predictor: Predictor) -> str:
    """How a detector's state is read by torchvision."""
    model = predictor.model
    if not isinstance(model, Detector):
        return ""
    c = model.config
    kind = "MaskRCNN" if model.masks else "FasterRCNN"
    lines = [f"for torchvision's {kind} with num_classes={len(predictor.categories) + 1} over resnet_fpn_backbone"]
    if c.norm == "group":
        lines.append("with group norms in the place of batch norms")
    if c.head_norm == "group":
        lines.append("with group norms in pyramid and mask head (norm_layer)")
    lines.append(f"anchors {c.anchors}, ratios {c.ratios}, pyramid of {c.width} channels, box head of {c.hidden}")
    return ": " + "; ".join(lines)


def _write_onnx(model: Segmenter, out: Path) -> None:
    if importlib.util.find_spec("onnxscript") is None:
        raise ValueError(f"--out {out} needs ONNX installed: pip install 'genseg[onnx]'")
    model.eval()
    dims = {
        0: torch.export.Dim("batch"),
        2: 32 * torch.export.Dim("rows", min=2),
        3: 32 * torch.export.Dim("columns", min=2),
    }
    torch.onnx.export(
        model.model.to(memory_format=torch.contiguous_format), (torch.zeros(2, 3, 96, 128),), out, dynamo=True,
        input_names=["image"], output_names=["logits"], dynamic_shapes=({**dims},), opset_version=OPSET, verbose=False,
        external_data=False,
    )  # fmt: skip
