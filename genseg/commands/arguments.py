"""Kinds of arguments that several commands have."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from genseg.core.paths import expand

if TYPE_CHECKING:
    from genseg.data.regions.scope import Scope
    from genseg.workflows.generate.finder import Wanted


def path(text: str) -> Path:
    """A path with `~` and `embedded:` resolved. Raises ArgumentTypeError for embedded data that do
    not exist."""
    try:
        return expand(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def source(text: str) -> str:
    """Where images are, as `path`."""
    return str(path(text))


def add_resolution(parser: argparse.ArgumentParser) -> None:
    """Add how closely images are looked at."""
    closely = parser.add_mutually_exclusive_group()
    closely.add_argument(
        "--level",
        type=int,
        metavar="N",
        help="look at this level of an image's pyramid, 0 is the largest, in place of --side",
    )
    closely.add_argument(
        "--um-per-pixel",
        type=float,
        metavar="X",
        help="look at images at so many micrometres a pixel, in place of --side; finer ones are "
        "shrunk",
    )


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Add how much of images is looked at, and how closely."""
    add_resolution(parser)
    parser.add_argument(
        "--region",
        type=path,
        metavar="FILE",
        help="look at this region of interest alone: polygons as GeoJSON, or a mask as a picture",
    )
    parser.add_argument(
        "--every-tile",
        action="store_true",
        help="of images that are read by windows, look at tiles of plain background, too",
    )


def scope(options: argparse.Namespace) -> "Scope":
    """What `add_scope` or `add_resolution` was given."""
    from genseg.data.regions.scope import Scope

    more = {name: getattr(options, name) for name in ("region", "every_tile") if name in options}
    return Scope(level=options.level, um_per_pixel=options.um_per_pixel, **more)


def add_reading(parser: argparse.ArgumentParser, default: str = "as the run was trained") -> None:
    """Add which channels and pages of a file make an image."""
    parser.add_argument(
        "--channels",
        metavar="LIST",
        default="",
        help="which channels of a file: numbers from 1 or names, as 1,3 or DAPI,GFP (default: "
        f"{default})",
    )
    parser.add_argument(
        "--pages",
        metavar="WORD",
        default="",
        help="which pages (z, time) of a file: each, max, mean, N or N:M; 'max z' of several axes "
        f"(default: {default})",
    )


def add_wanted(parser: argparse.ArgumentParser) -> None:
    """Add what counts as an instance."""
    parser.add_argument(
        "--score",
        type=float,
        help="least score of an instance of a run, a probability (default: that of the run)",
    )
    parser.add_argument(
        "--min-area",
        type=int,
        metavar="PIXELS",
        help="least area of an instance, in the image's own pixels (default: that of the run; of a "
        "proposer 20)",
    )
    parser.add_argument(
        "--side",
        type=int,
        metavar="PIXELS",
        help="shrink larger images to this short side; 0: never (default: as the run has; of a "
        "proposer 0)",
    )
    add_energy(parser, "the instances of a run")
    add_teacher(parser)


def add_energy(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the energy that ranks."""
    parser.add_argument(
        "--energy",
        metavar="DIR",
        help=f"a run of genseg energy that ranks {what}; scores are then those that it gives",
    )


def add_teacher(parser: argparse.ArgumentParser) -> None:
    """Add the frozen teacher that a proposer asks."""
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="what the proposer cut asks: the .safetensors file of a ViT or a ConvNeXt, a run with "
        "an encoder, or a tag of timm",
    )
    parser.add_argument(
        "--teacher-name",
        metavar="NAME",
        help="timm's name of the architecture, where the teacher's file does not say it",
    )
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch the weights of the teacher's tag, where they are not on this machine",
    )


def wanted(options: argparse.Namespace) -> "Wanted":
    """What `add_wanted` was given."""
    from genseg.workflows.generate.finder import Wanted

    return Wanted(
        score=options.score,
        min_area=options.min_area,
        side=options.side,
        energy=options.energy,
        teacher=options.teacher,
        teacher_name=options.teacher_name,
        download=options.download,
    )
