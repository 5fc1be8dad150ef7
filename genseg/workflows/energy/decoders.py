"""The run whose alpha decoder an energy is for, with the alpha task or fine-tuned; and the
composites that its decoder is tried on."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8

from genseg import config as configs
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.model import AlphaModel, Look, load_alpha
from genseg.core.names import ALPHA_NAME, BANKS, BEST_NAME, CONFIG_NAME, MODEL_NAME
from genseg.core.precision import fast_precision, scoring_precision
from genseg.core.reading import current
from genseg.data.composites.bank import Bank, build_bank, load_bank
from genseg.data.composites.compose import ComposeConfig
from genseg.data.composites.composer import Composer
from genseg.data.images.cache import build_cache
from genseg.data.images.files import ImageList, fingerprint, list_images
from genseg.data.images.source import ImageSource
from genseg.data.instances.instance import Instance, resized, whole_ones
from genseg.data.instances.run_length import windowed
from genseg.data.labels.labelled_set import LabelledImage, LabelledSet
from genseg.data.labels.read import read_labels
from genseg.data.labels.samples import read_sample
from genseg.data.regions.opened import absent_in, in_windows, read_image, refuse_whole, source_of
from genseg.data.scenes.scenes import default_scenes
from genseg.energies.maps import check_grids
from genseg.nn.weights import read_facts
from genseg.transfer.places import PlaceDetector
from genseg.transfer.predictor import Preparation, load_predictor
from genseg.workflows.finetune import config as finetuned
from genseg.workflows.finetune.parts import read_numbers
from genseg.workflows.finetune.start import start_of
from genseg.workflows.generate.finder import alpha_file
from genseg.workflows.pretrain import config as pretrained
from genseg.workflows.pretrain.parts import read_cache
from genseg.workflows.pretrain.rounds import first_bank

Pixels = UInt8[np.ndarray, "h w c"]
Config = TypeVar("Config")


@dataclass(frozen=True)
class DecoderRun:
    """A run whose alpha decoder draws the maps that an energy judges.

    file: its weights
    model: its encoder and decoder; of a detector with the classes of codes
    preparation: how a detector prepares images; None: the run has the alpha task
    fingerprint: of the images that it was trained on; empty: not known
    """

    file: Path
    model: AlphaModel
    preparation: Preparation | None = None
    fingerprint: str = ""

    @property
    def decoder(self) -> AlphaDecoder:
        assert isinstance(self.model.decoder, AlphaDecoder)
        return self.model.decoder

    def prepared(self, image: Pixels) -> UInt8[np.ndarray, "_ _ c"]:
        """An image as the model sees it."""
        how = self.preparation
        return self.model.prepared(image) if how is None else how.resized(image)


def decoder_run(path: Path, device: torch.device) -> DecoderRun:
    """The run of a directory, or of a file of weights, on a device. Raises ValueError where it has
    no codes of places."""
    named = (ALPHA_NAME, BEST_NAME, MODEL_NAME)
    file = next((f for name in named if (f := path / name).is_file()), None) or alpha_file(path)
    run = _detector(file, device) if "preparation" in read_facts(file) else _alpha(file, device)
    check_grids(run.decoder)
    return run


def _alpha(file: Path, device: torch.device) -> DecoderRun:
    model, facts = load_alpha(file)
    if not isinstance(model.decoder, AlphaDecoder):
        raise ValueError(
            f"{file}: its codes come from slots, and an energy is for those of places; give a run "
            "with alpha.name=places"
        )
    model.to(device).precision = fast_precision(device)
    return DecoderRun(file, model, fingerprint=facts.fingerprint)


def _detector(file: Path, device: torch.device) -> DecoderRun:
    predictor, facts = load_predictor(file)
    detector, p = predictor.model, predictor.preparation
    if not isinstance(detector, PlaceDetector):
        raise ValueError(
            f"{file}: {facts.model.name} has no alpha decoder, and an energy is for one; give a "
            "run with the alpha task, or of genseg finetune with model.name=places"
        )
    look = Look(p.mean, p.std, 0, p.stretch, p.reading)
    found, classify = detector.config.generate, detector.classify
    model = AlphaModel(detector.encoder, detector.decoder, look, found, classify).to(device)
    model.precision = scoring_precision(facts.precision, device)
    return DecoderRun(file, model, p)


def composer_of(run: DecoderRun, data: str | None, *, kept: bool = True) -> tuple[Composer, str]:
    """What makes composites for a run, and a word that changes when they do.

    Of a run with the alpha task they are those that it was trained on, of the same images and first
    proposals. Of a detector the cut-outs are its labels.

    data: the images, or the labels, where they are elsewhere than the run says
    kept: decoded images and proposals are kept in the user's cache; else nothing is written

    Raises ValueError where images, labels or the run's config are gone, or are others.
    """
    if run.preparation is None:
        return _of_proposals(run, data, kept=kept)
    return _of_labels(run.file, run.preparation, data, kept=kept)


def _config(file: Path, kind: type[Config], choices: Any) -> Config:
    """The config of the run that a file of weights is of. Raises ValueError where it is gone."""
    kept = file.parent / CONFIG_NAME
    if not kept.is_file():
        raise ValueError(
            f"there is no {kept}: an energy is trained on composites, and that says how they are "
            f"made; give the run directory that {file.name} is of"
        )
    return configs.load(kind, file=kept, overrides=[], choices=choices)


def _recipe(alpha: Path) -> pretrained.PretrainConfig:
    return _config(alpha, pretrained.PretrainConfig, pretrained.CHOICES)


# Composites of proposals


def _of_proposals(run: DecoderRun, data: str | None, *, kept: bool) -> tuple[Composer, str]:
    recipe = _recipe(run.file)
    where = data or recipe.data.path
    images = in_windows(list_images(default_scenes("images") if where == "embedded" else where))
    content = fingerprint(images)
    if run.fingerprint and content != run.fingerprint:
        raise ValueError(
            f"data={where}: these are not the images that {run.file} was trained on; give their "
            "folder as data=FOLDER"
        )
    c, file = recipe.alpha, run.file.parent / BANKS / "0.npz"
    if kept:
        source = source_of(images, read_cache(images, recipe, c.side, content))
    else:
        shrunk = functools.partial(read_image, short_side=c.side)
        source = ImageSource(images, None, shrunk, absent_in)
    bank = (
        load_bank(file)
        if file.is_file() or not kept
        else first_bank(content, source, c, workers=recipe.data.workers)
    )
    return Composer(source, bank, c.compose, share=1.0, seed=recipe.seed), content


# Composites of labels


def _of_labels(
    file: Path, preparation: Preparation, data: str | None, *, kept: bool
) -> tuple[Composer, str]:
    c = _config(file, finetuned.FinetuneConfig, finetuned.CHOICES)
    labelled, _ = read_labels(data or c.data.train, c.model.name)
    if data is None and c.data.subset is not None:
        labelled = labelled.subset(read_numbers(Path(c.data.subset)))
    refuse_whole([image.path for image in labelled.images], "composites take it whole")
    images, read = _images_of(labelled), _reader(labelled, preparation)
    side = preparation.fit or max(max(i.height, i.width) for i in labelled.images)
    known = hashlib.blake2b(digest_size=16)
    known.update(f"{fingerprint(images)} {preparation}".encode())
    cached = None
    if kept:
        word = known.hexdigest()
        workers = max(c.data.workers, 1)
        cached = build_cache(images, side=side, workers=workers, content=word, read=read)
    source = ImageSource(images, cached, read, absent_in)
    bank = bank_of(labelled, preparation, source)
    # labels name all that is an instance (1), but for crowds (0); images are prepared before they
    # are cut
    compose = replace(_compose(c), background=True, stretch=False, sure=0.5, native=0.5)
    for array in (bank.rows, bank.scores, bank.alphas):
        known.update(np.ascontiguousarray(array).tobytes())
    known.update(f"{compose} {c.seed}".encode())
    return Composer(source, bank, compose, share=1.0, seed=c.seed), known.hexdigest()


def _images_of(labelled: LabelledSet) -> ImageList:
    """The images of labels as a list."""
    root = labelled.source.parent
    files = tuple(Path(os.path.relpath(i.path, root)).as_posix() for i in labelled.images)
    pages = tuple(image.page for image in labelled.images)
    return ImageList(root, files, pages=pages if any(pages) else None, reading=current())


def _reader(labelled: LabelledSet, preparation: Preparation) -> Callable[..., Pixels]:
    """Reads a labelled image as the detector sees it, whatever its short side is."""

    def read(images: ImageList, i: int, *, short_side: int = 0) -> Pixels:
        return preparation.resized(read_sample(labelled.images[i]))

    return read


def bank_of(labelled: LabelledSet, preparation: Preparation, source: ImageSource) -> Bank:
    """Labels as cut-outs, at the size at which a detector sees their images. A crowd is none: where
    it lies may or may not be an instance."""

    def cut_outs(image: LabelledImage) -> list[Instance]:
        before = image.height, image.width
        after = preparation.size(*before)
        found = []
        for mask, crowd in zip(image.masks or (), image.crowd, strict=True):
            a = windowed(mask)
            small = a if after == before else resized(a, before, after)
            if small is not None and small.area:
                found.append(replace(small, score=0.0 if crowd else 1.0))
        return found

    return build_bank(
        [whole_ones(cut_outs(image), source.absent(i)) for i, image in enumerate(labelled.images)]
    )


def note_on(run: DecoderRun) -> str:
    """What a user should know of a run's composites; empty: nothing."""
    if run.preparation is None:
        return ""
    encoder = _config(run.file, finetuned.FinetuneConfig, finetuned.CHOICES).encoder
    try:
        start_of(encoder)
    except ValueError:
        return (
            f"encoder={encoder} is not there any more, so composites are made as usual and not as "
            "that run made them; run from the same folder, or put it back, where they have to be"
        )
    return ""


def _compose(c: finetuned.FinetuneConfig) -> ComposeConfig:
    """How the encoder's run made composites, where it had the alpha task and is there; else as
    usual, which `note_on` tells."""
    with contextlib.suppress(ValueError):
        if (alpha := start_of(c.encoder).alpha) is not None:
            return _recipe(alpha).alpha.compose
    return ComposeConfig()
