"""A fine-tuned model for other libraries: torchvision, segmentation-models-pytorch, ONNX."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from genseg.core.names import BEST_NAME, MODEL_NAME
from genseg.nn.weights import whole
from genseg.transfer.detector import BINS, LEVELS, Detector
from genseg.transfer.places import PlaceDetector
from genseg.transfer.predictor import Predictor, load_predictor
from genseg.transfer.segmenter import Segmenter
from genseg.workflows.export.alpha_onnx import HOW, write_places
from genseg.workflows.export.encoder import Exported, names_file, refuse_run, save_pth
from genseg.workflows.export.onnx_file import write_onnx


def is_finetuned(run: Path) -> bool:
    """Whether a run directory is one of genseg finetune."""
    return any((run / name).is_file() for name in (BEST_NAME, MODEL_NAME))


def export_model(run: Path, out: Path) -> Exported:
    """Write the model of `run` to `out`.

    `out` ending in .pth or .safetensors: a state dict; that of a detector is plain torchvision's.
    Ending in .onnx: semantic models, and places as `genseg.onnx` runs them. A folder: semantic
    models as smp's `save_pretrained`. Raises ValueError for what does not go.
    """
    predictor, facts = load_predictor(run)
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
        return Exported(out, run, len(tensors), _how(predictor, facts.encoder.name, out))
    if isinstance(model, PlaceDetector) and out.suffix == ".onnx":
        return Exported(out, run, write_places(predictor, out), HOW)
    if not isinstance(model, Segmenter):
        onnx = out.suffix == ".onnx"
        what, which = (
            ("ONNX", "semantic models and places") if onnx else ("a folder", "semantic models")
        )
        raise ValueError(
            f"--out {out}: {what} is for {which}. torch's exporter cannot follow how "
            "torchvision's detectors choose boxes; write a state dict (--out FILE.pth), which "
            "loads into torchvision. The older torch.onnx.export(..., dynamo=False) then writes "
            "ONNX for images of one size"
        )
    if out.suffix == ".onnx":
        image = torch.zeros(2, facts.encoder.in_channels, 96, 128)
        write_onnx(model.model, image, out, outputs=("logits",))
        how = (
            f"; input `image` (batch, {facts.encoder.in_channels}, height, width), sides a "
            "multiple of 32, "
            f"{_prepared(predictor)}; output `logits`"
        )
        return Exported(out, run, len(inner.state_dict()), how)
    if names_file(out):
        raise ValueError(
            f"--out {out}: end it in .pth, .safetensors or .onnx, or name a folder for smp"
        )
    model.model.save_pretrained(out)
    how = (
        f"; segmentation_models_pytorch.from_pretrained({str(out)!r}) reads it; it takes "
        f"{_prepared(predictor)}"
    )
    return Exported(out, run, len(inner.state_dict()), how)


def _prepared(predictor: Predictor) -> str:
    """What a model takes."""
    p = predictor.preparation
    size = f" of a long side of {p.fit} pixels" if p.fit else ""
    spread = ", their values spread by genseg.data.images.inputs.stretch first" if p.stretch else ""
    names = p.reading.channels and f"channels {p.reading.channels}"
    mean, std = _numbers(p.mean), _numbers(p.std)
    return f"{names or 'RGB'}{size} from 0 to 1, less mean {mean} over std {std}{spread}"


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(v, 6) for v in values)


def _how(predictor: Predictor, encoder: str, out: Path) -> str:
    """The lines of Python that read a detector's state into plain torchvision, or what stands
    against it."""
    model = predictor.model
    if not isinstance(model, Detector):
        return ""
    if not encoder.startswith("resnet"):
        return (
            f"\ntorchvision has no {encoder} under a pyramid: the keys of the encoder are those "
            "of smp"
        )
    c, p = model.config, predictor.preparation
    kind, classes = "MaskRCNN" if model.masks else "FasterRCNN", len(predictor.categories) + 1
    size = f"{p.fit}, {p.fit}" if p.fit else "1, 1"
    pth = out.suffix == ".pth"
    norms = {
        "group": "lambda c: torch.nn.GroupNorm(math.gcd(32, c), c)",
        "frozen": "torchvision.ops.FrozenBatchNorm2d",
    }
    groups = "lambda c: torch.nn.GroupNorm(max(1, math.gcd(128, c) // 4), c)"
    widths = [int(w) for w in model.encoder.net.out_channels[-4:]]
    heads = _heads(model, classes)
    lines = [
        "import math, torch, torchvision",
        *([] if pth else ["from safetensors.torch import load_file"]),
        f"from torchvision.models.detection import {kind}, faster_rcnn, mask_rcnn",
        "from torchvision.models.detection.anchor_utils import AnchorGenerator",
        "from torchvision.models.detection.backbone_utils import resnet_fpn_backbone",
        "from torchvision.models.detection.transform import GeneralizedRCNNTransform",
        "from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, "
        "LastLevelMaxPool",
        "",
        f"norm = {groups if c.head_norm == 'group' else None}",
        f'body = resnet_fpn_backbone(backbone_name="{encoder}", weights=None, '
        f"norm_layer={norms.get(c.norm, 'torch.nn.BatchNorm2d')})",
        f"body.fpn = FeaturePyramidNetwork({widths}, {c.width}, extra_blocks=LastLevelMaxPool(), "
        "norm_layer=norm)",
        f"body.out_channels = {c.width}",
        f"anchors = AnchorGenerator({tuple((a,) for a in c.anchors or ())}, ({c.ratios},) * "
        f"{LEVELS})",
        f"model = {kind}(body, rpn_anchor_generator=anchors, box_score_thresh={c.score}, "
        f"box_nms_thresh={c.overlap}, box_detections_per_img={c.detections},",
        *(f"    {head}," for head in heads[:-1]),
        f"    {heads[-1]})",
        f"model.load_state_dict({'torch.load' if pth else 'load_file'}({str(out)!r}))",
        f"model.transform = GeneralizedRCNNTransform({size}, {_numbers(p.mean)}, "
        f"{_numbers(p.std)})",
    ]
    lines += [] if p.fit else ["model.transform.resize = lambda image, target: (image, target)"]
    return ", for torchvision:\n\n" + "\n".join([*lines, *_differences(predictor, model)])


def _heads(model: Detector, classes: int) -> list[str]:
    """The heads of a detector, as torchvision takes them."""
    c = model.config
    heads = [
        f"box_head=faster_rcnn.TwoMLPHead({c.width * BINS**2}, {c.hidden})",
        f"box_predictor=faster_rcnn.FastRCNNPredictor({c.hidden}, {classes})",
    ]
    if model.masks:
        heads += [
            f"mask_head=mask_rcnn.MaskRCNNHeads({c.width}, ({c.width},) * 4, 1, norm_layer=norm)",
            f"mask_predictor=mask_rcnn.MaskRCNNPredictor({c.width}, {c.width}, {classes})",
        ]
    return heads


def _differences(predictor: Predictor, model: Detector) -> Iterator[str]:
    """What genseg does otherwise than torchvision, as comments."""
    if predictor.preparation.stretch:
        yield "# images: genseg.data.images.inputs.stretch first, then RGB from 0 to 1"
    yield f"# in images of more than {model.config.tile} px genseg looks at overlapping tiles"
    if model.masks:
        yield "# masks: torchvision pastes them at whole pixels, genseg where they are"
