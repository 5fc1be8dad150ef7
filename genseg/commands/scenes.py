"""`genseg scenes`: the embedded example images as files."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "write the embedded example images, with exact alpha maps"
HELP = """\
Compose pictures of textured objects with exact alpha maps and a COCO json.

  genseg scenes scenes --count 50
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", type=path, metavar="FOLDER")
    parser.add_argument(
        "--count", type=int, default=200, help="images of several objects (default: 200)"
    )
    parser.add_argument(
        "--size", type=int, default=128, help="pixels of their sides (default: 128)"
    )
    parser.add_argument("--seed", type=int, default=0, help="another draw (default: 0)")
    parser.add_argument(
        "--split",
        choices=("train", "val"),
        default="train",
        help="which photographs the textures come from",
    )
    parser.add_argument(
        "--alphas",
        action="store_true",
        help="also alphas/IMAGE-DEPTH.png, the true 8-bit soft alphas",
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.data.scenes.scenes import write_scenes

    write_scenes(
        options.folder,
        count=options.count,
        size=options.size,
        seed=options.seed,
        split=options.split,
        alphas=options.alphas,
    )
    print(f"{options.count} scenes in {options.folder}")
    return 0
