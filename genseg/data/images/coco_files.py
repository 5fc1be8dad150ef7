"""A COCO json as a file: what it holds, and where the images lie that it names."""

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genseg.core.paths import exists

YAML = (".yaml", ".yml")  # of YOLO's description of a data set
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


class CocoError(ValueError):
    """A COCO json that cannot be used; the message says where and why."""


def load_json(path: Path) -> Any:
    """Whatever json a file holds. Raises CocoError when it is missing or no json."""
    try:
        if path.suffix.lower() in YAML:
            raise ValueError(
                f"it is YOLO's; genseg convert {path} --to coco --out FILE.json makes a COCO json "
                "of it"
            )
        content = path.read_bytes()
        if packed := next(
            (name for start, name in PACKED.items() if content.startswith(start)), None
        ):
            raise ValueError(f"it is compressed ({packed}); unpack it")
        return json.loads(content)  # in any of json's encodings, with or without a byte order mark
    except json.JSONDecodeError as error:
        why = f"it is no json: {error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        why = f"it is no json: not UTF-8 ({error.reason})"
    except RecursionError:
        why = "its brackets are nested without end"
    except (OSError, ValueError) as error:
        why = str(error)
    raise CocoError(f"{path} cannot be read as a COCO json: {why}")


def slashed(name: str) -> str:
    """A file_name as Windows writes it, with the slashes of all other systems."""
    return name.replace("\\", "/")


def coco_folders(json_file: Path) -> tuple[Path, ...]:
    """What the file names of a COCO json may be relative to: `images/` beside it, its own folder,
    its subset's.

    The last word of its name is the subset: the images of annotations/instances_train2017.json lie
    in train2017/, as COCO has them, or in images/train2017/ or images/, as CVAT and Datumaro write
    them.
    """
    folder, above = json_file.parent, json_file.absolute().parent.parent
    subsets = dict.fromkeys(
        (json_file.stem.rpartition("_")[2], json_file.stem.partition("_")[2] or json_file.stem)
    )
    return (
        folder / "images",
        folder,
        *(above / subset for subset in subsets),
        *(above / "images" / subset for subset in subsets),
        above / "images",
    )


def find_file(name: str, folders: Sequence[Path]) -> tuple[Path, str]:
    """The file of a file_name in the first of the folders that has it, and the name as that system
    writes it: one with backslashes is of Windows. Where none has it: the place in the first."""
    names = dict.fromkeys((name, slashed(name)))
    for spelled in names:
        for folder in folders:
            if exists(place := folder / posixpath.normpath(spelled)):
                return place, spelled
    return folders[0] / posixpath.normpath(slashed(name)), slashed(name)
