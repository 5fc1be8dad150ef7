"""An alpha model, or a fine-tuned model of places, as one ONNX file that `genseg.onnx` runs without
torch."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genseg import __version__
from genseg.alpha.codes import COARSER, FAINT, LARGE, REACH, STRIDE
from genseg.alpha.decoder import AlphaDecoder, by_place
from genseg.alpha.model import alpha_facts, load_alpha
from genseg.nn.encoder import MULTIPLE, Encoder
from genseg.onnx.facts import KEY, Drawing, OnnxFacts
from genseg.onnx.model import OUTPUTS
from genseg.transfer.places import PlaceDetector
from genseg.transfer.predictor import Predictor
from genseg.workflows.export.onnx_file import write_onnx

# what runs the file
HOW = "; python -m genseg.onnx FILE FOLDER --out DIR finds instances with it, without torch"


class _Dense(nn.Module):
    """What a network says of a batch of images before anything is chosen; see `OUTPUTS`."""

    def __init__(
        self, encoder: Encoder, decoder: AlphaDecoder, classify: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.classify = encoder, decoder, classify

    def forward(self, image: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        embeddings, heads = self.decoder.maps(self.encoder.pyramid(image))
        found = by_place(heads)
        vector = found[..., 2:]
        if self.classify is None:
            categories = torch.ones_like(found[..., :1])
        else:
            categories = self.classify(vector).softmax(-1)
        return embeddings, found[..., 0], found[..., 1], self.decoder.kernel(vector), categories


def write_alpha(file: Path, out: Path) -> int:
    """Write the alpha model in `file`; the number of its tensors. Raises ValueError for slots."""
    if alpha_facts(file).teacher is not None:
        raise ValueError(
            f"--out {out}: the decoder of {file} takes the features of a teacher, and an ONNX file "
            "holds none; train with alpha.teacher_level=false"
        )
    model, facts = load_alpha(file)
    if not isinstance(model.decoder, AlphaDecoder):
        raise ValueError(
            f"--out {out}: {file} proposes codes by slots, and ONNX is for codes proposed by "
            "place; train with alpha.slots=null"
        )
    look = model.look
    said = OnnxFacts(
        kind="alpha",
        mean=look.mean,
        std=look.std,
        side=look.side,
        fit=0,
        stretch=look.stretch,
        multiple=MULTIPLE,
        drawing=_drawing(model.decoder),
        generate=facts.generate,
        categories=((1, "instance"),),
        calibration=facts.calibration,
        reading=look.reading,
        genseg=__version__,
    )
    return _write(_Dense(model.encoder, model.decoder), said, out)


def write_places(predictor: Predictor, out: Path) -> int:
    """Write a fine-tuned model of places; the number of its tensors."""
    model, how = predictor.model, predictor.preparation
    assert isinstance(model, PlaceDetector)
    said = OnnxFacts(
        kind="places",
        mean=how.mean,
        std=how.std,
        side=0,
        fit=how.fit,
        stretch=how.stretch,
        multiple=MULTIPLE,
        drawing=_drawing(model.decoder),
        generate=model.config.generate,
        categories=predictor.categories,
        reading=how.reading,
        genseg=__version__,
    )
    return _write(_Dense(model.encoder, model.decoder, model.classify), said, out)


def _drawing(decoder: AlphaDecoder) -> Drawing:
    c = decoder.config
    return Drawing(c.embedding, c.hidden, STRIDE, c.grids, REACH, LARGE, COARSER, FAINT)


def _write(network: nn.Module, facts: OnnxFacts, out: Path) -> int:
    x = torch.zeros(2, len(facts.mean), 96, 128)
    write_onnx(network, x, out, outputs=OUTPUTS, about={KEY: json.dumps(asdict(facts))})
    return len(network.state_dict())
