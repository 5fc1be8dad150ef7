"""A trained encoder and alpha decoder as one thing that gives the instances of whole images."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import overload

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from genseg import __version__
from genseg.alpha.calibration import Calibration
from genseg.alpha.decoder import AlphaDecoder, DecoderConfig, Places
from genseg.alpha.generate import Rank, generate, proposed_at
from genseg.alpha.kept import GenerateConfig, covering, unpadded
from genseg.alpha.merging import by_tiles
from genseg.alpha.slots import SlotAttentionConfig, SlotDecoder, slots_found
from genseg.alpha.teacher_level import TeacherFile, TeacherLevel, teacher_of
from genseg.alpha.tiles import tile_at
from genseg.core.check import at_least, normalisation
from genseg.core.reading import Reading
from genseg.data.images.decode import shrunk
from genseg.data.images.inputs import as_inputs, stretch
from genseg.data.images.pixels import Numbers, normalise
from genseg.data.instances.instance import Instance, resized
from genseg.data.regions.scene import Scene
from genseg.nn.encoder import MULTIPLE, Encoder, EncoderConfig
from genseg.nn.norms import average_anew, unsynced
from genseg.nn.weights import checked_facts, fill, read_facts, save_weights

Pixels = UInt8[np.ndarray, "h w c"]


@dataclass(frozen=True)
class Look:
    """How an image is prepared, in training as in generation."""

    mean: Numbers
    std: Numbers
    side: int  # larger images are shrunk to this short side; 0: never
    stretch: bool  # values are spread over the whole range
    reading: Reading = Reading()  # how files are read

    def __post_init__(self) -> None:
        normalisation(self.mean, self.std)
        at_least(0, side=self.side)


@dataclass(frozen=True)
class AlphaFacts:
    """What `alpha.safetensors` says of itself."""

    encoder: EncoderConfig
    look: Look
    decoder: DecoderConfig
    slots: SlotAttentionConfig | None  # None: codes are proposed by place
    generate: GenerateConfig
    # whose features the decoder takes: it is needed, and in no file of genseg; None: of none
    teacher: TeacherFile | None = None
    calibration: Calibration = Calibration()
    method: str = "none"  # that the encoder was trained with beside the alpha task
    images_seen: int = 0
    fingerprint: str = ""  # of the images
    genseg: str = ""  # the version that has written it

    def __post_init__(self) -> None:
        if len(self.look.mean) != self.encoder.in_channels:
            raise ValueError(
                f"look.mean has {len(self.look.mean)} numbers, and the encoder "
                f"{self.encoder.in_channels} channels"
            )


class AlphaModel(nn.Module):
    """Encoder, decoder and how images are prepared for them. It is always in evaluation mode.

    classify: makes a code the logits of its classes, where there are any
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: AlphaDecoder | SlotDecoder,
        look: Look,
        config: GenerateConfig,
        classify: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.classify = encoder, decoder, classify
        self.look, self.config = look, config
        # of the scores that places have, and what they say of themselves
        self.calibration = Calibration()
        # an energy that ranks instances; scores are then those that it gives
        self.rank: Rank | None = None
        self.precision = torch.float32
        self.eval()

    @torch.no_grad()
    def instances(self, image: Pixels | Scene) -> list[Instance]:
        """All instances of an image, best first, in its own pixels. Large images are seen by
        overlapping tiles; of a scene these are read one by one. Scores, and the least score, are
        probabilities, as far as the model is calibrated."""
        small, whole = self.prepared(image), image.shape[:2]
        h, w = small.shape[:2]
        c = self.config
        found = by_tiles(
            h,
            w,
            lambda t: self._tile(small[t.window]),
            tile=c.tile,
            overlap=c.overlap,
            inside=c.inside,
            scene=small if isinstance(small, Scene) else None,
        )
        if small.shape[:2] != whole:
            found = [
                a for a in (resized(a, small.shape[:2], whole) for a in found) if a is not None
            ]
        return [a for a in found if a.area >= self.config.min_area]

    @torch.no_grad()
    def instance_at(self, image: Pixels, y: float, x: float) -> Instance | None:
        """The instance whose code is proposed at a place of an image, in pixels, however little it
        scores; None where nothing is seen. Of a large image the tile whose middle is nearest is
        looked at."""
        small, whole = self.prepared(image), image.shape[:2]
        y, x = (y + 0.5) * small.shape[0] / whole[0], (x + 0.5) * small.shape[1] / whole[1]
        h, w = small.shape[:2]
        tile = tile_at(h, w, y, x, tile=self.config.tile)
        pixels = small[tile.window]
        pyramid = self.encoder.pyramid(self.tensor([pixels]))
        if isinstance(self.decoder, SlotDecoder):
            found = slots_found(self.decoder(pyramid)[0], GenerateConfig(score=0, min_area=1))[0]
        else:
            embeddings, places = self.decoder(pyramid)
            found = proposed_at(self.decoder, embeddings, places, y - tile.top, x - tile.left)
        inside = covering(found, tile.height, tile.width, int(y - tile.top), int(x - tile.left))
        if inside is None:
            return None
        score = self.calibration.probability(inside.score)
        moved = Instance(inside.alpha, inside.top + tile.top, inside.left + tile.left, score)
        return moved if small.shape[:2] == whole else resized(moved, small.shape[:2], whole)

    @overload
    def prepared(self, image: Pixels) -> UInt8[np.ndarray, "_ _ c"]: ...
    @overload
    def prepared(self, image: Scene) -> Scene: ...
    def prepared(self, image: Pixels | Scene) -> UInt8[np.ndarray, "_ _ c"] | Scene:
        """An image as the encoder sees it: shrunk and stretched, as in training."""
        if isinstance(image, Scene):
            seen = image.inputs(len(self.look.mean)).looked_at(self.look.side)
            return seen.stretched() if self.look.stretch else seen
        small = shrunk(as_inputs(image, len(self.look.mean)), self.look.side)
        return stretch(small) if self.look.stretch else small

    def _tile(self, pixels: Pixels) -> list[Instance]:
        h, w = pixels.shape[:2]
        least = self.calibration.score(self.config.score)
        # that counts pixels of the image, not of pieces
        config = replace(self.config, score=least, min_area=1)
        with torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        ):
            pyramid = self.encoder.pyramid(self.tensor([pixels]))
            if isinstance(self.decoder, SlotDecoder):
                (found,) = slots_found(self.decoder(pyramid)[0], config)
            else:
                embeddings, places = self.decoder(pyramid)
                (found,) = generate(
                    self.decoder, embeddings, places, config, self._classes(places), self.rank
                )
        whole = unpadded(found, h, w, config)
        return [replace(a, score=self.calibration.probability(a.score)) for a in whole]

    def proposed(
        self, images: Sequence[Pixels]
    ) -> tuple[Float[Tensor, "b e _ _"], Places, Float[Tensor, "b p k"] | None]:
        """Pixel embeddings of images of one size, the places that propose codes, and the
        probabilities of classes at each, where there are any."""
        assert isinstance(self.decoder, AlphaDecoder)
        with torch.autocast(
            self.device.type, self.precision, enabled=self.precision != torch.float32
        ):
            embeddings, places = self.decoder(self.encoder.pyramid(self.tensor(images)))
            return embeddings, places, self._classes(places)

    def _classes(self, places: Places) -> Float[Tensor, "b p k"] | None:
        return None if self.classify is None else self.classify(places.vector).float().softmax(-1)

    def tensor(self, images: Sequence[Pixels]) -> Tensor:
        """Images of one size as the encoder takes them: normalised, mirrored at the edges to a
        multiple of 32."""
        h, w = images[0].shape[:2]
        below, right = -h % MULTIPLE, -w % MULTIPLE
        mirrored = [_mirrored(x, below, right) for x in images]
        pixels = torch.from_numpy(np.stack(mirrored)).to(self.device)
        x = normalise(pixels, mean=self.look.mean, std=self.look.std)
        return x.contiguous(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.no_grad()
    def fit_norms(self, images: Iterable[UInt8[np.ndarray, "_ _ c"]], *, size: int) -> None:
        """Make the batch norms' statistics anew, from windows of real images as generation sees
        them: training has averaged those of composites, or of views."""
        norms = average_anew(self)
        batch: list[Pixels] = []
        for image in images:
            small = self.prepared(image)
            h, w = small.shape[:2]
            small = _mirrored(small, max(0, size - h), max(0, size - w))
            top, left = (max(0, n - size) // 2 for n in (h, w))
            batch.append(small[top : top + size, left : left + size])
            if len(batch) == 16:
                self.decoder(self.encoder.pyramid(self.tensor(batch)))
                batch = []
        # a last small batch would weigh as a full one
        if batch and not norms[0].num_batches_tracked:
            self.decoder(self.encoder.pyramid(self.tensor(batch)))
        self.eval()


def save_alpha(
    model: AlphaModel,
    path: Path,
    encoder: EncoderConfig,
    *,
    method: str = "none",
    images_seen: int = 0,
    fingerprint: str = "",
) -> None:
    """Write encoder and decoder; the file says how to build and use them, and no path of the
    author's.

    Raises WeightsError when the disk is full.
    """
    slots = model.decoder.config if isinstance(model.decoder, SlotDecoder) else None
    decoder = model.decoder.decoder if isinstance(model.decoder, SlotDecoder) else model.decoder
    facts = AlphaFacts(
        encoder=replace(encoder, weights=None),
        look=model.look,
        decoder=decoder.config,
        slots=slots,
        generate=model.config,
        teacher=None if decoder.taught is None else decoder.taught.facts,
        calibration=model.calibration,
        method=method,
        images_seen=images_seen,
        fingerprint=fingerprint,
        genseg=__version__,
    )
    save_weights(model.state_dict(), path, asdict(facts))


def load_alpha(path: Path, *, teacher: str | None = None) -> tuple[AlphaModel, AlphaFacts]:
    """The model that `save_alpha` has written, and what its file says. Raises ValueError for any
    other file.

    teacher: the teacher whose features the decoder takes, where it takes those of one, in place of
        what is found by its name

    Nothing is fetched: the weights are in the file, but for a teacher's.
    """
    facts = alpha_facts(path)
    if teacher is not None and facts.teacher is None:
        raise ValueError(
            f"--teacher is for models that take the features of one; {path} takes none"
        )
    level = None
    if facts.teacher is not None:
        level = TeacherLevel(
            teacher_of(facts.teacher, path, teacher),
            file=facts.teacher.file,
            mean=facts.look.mean,
            std=facts.look.std,
        )
    model = fill(lambda: _built(facts, level), path)
    model.calibration = facts.calibration
    return model.to(memory_format=torch.channels_last), facts


def alpha_facts(path: Path) -> AlphaFacts:
    """What a file that `save_alpha` has written says of itself. Raises ValueError for any other
    file."""
    values = read_facts(path)
    if "look" not in values:
        raise ValueError(f"{path} holds no alpha decoder that genseg has written")
    return checked_facts(path, values, AlphaFacts)


def _built(facts: AlphaFacts, taught: TeacherLevel | None) -> AlphaModel:
    """The model as a file describes it, with random weights."""
    encoder = Encoder(replace(facts.encoder, weights=None))
    slots = facts.slots
    decoder = (
        SlotDecoder(encoder, slots, facts.decoder)
        if slots
        else AlphaDecoder(encoder, facts.decoder, taught)
    )
    return AlphaModel(encoder, decoder, facts.look, facts.generate)


def snapshot(
    encoder: Encoder, decoder: AlphaDecoder | SlotDecoder, look: Look, config: GenerateConfig
) -> AlphaModel:
    """A model of copies: what is made of it leaves the training alone, and asks nothing of the
    other processes."""
    model = AlphaModel(copy.deepcopy(encoder), copy.deepcopy(decoder), look, config)
    unsynced(model)
    return model.eval()


def _mirrored(image: Pixels, below: int, right: int) -> UInt8[np.ndarray, "_ _ c"]:
    if not (below or right):
        return image
    out = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    return out.reshape(*out.shape[:2], image.shape[2])
