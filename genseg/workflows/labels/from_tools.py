"""COCO jsons made of what labelling tools export: QuPath, ImageJ, CVAT, Label Studio, any COCO."""

import contextlib
import io
import json
import posixpath
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from genseg.core.words import amount
from genseg.data.images.coco_files import CocoError, load_json
from genseg.data.images.decode import reason_of
from genseg.data.instances.coco import file_key, named_after_each
from genseg.data.instances.cvat import drawn_images
from genseg.data.instances.geojson import Place, drawn_in
from genseg.data.instances.imagej import drawn_regions
from genseg.data.instances.label_studio import drawn_results
from genseg.data.instances.outline import Drawn
from genseg.data.instances.run_length import code_segmentation, run_lengths, windowed
from genseg.data.regions.georeference import OnMap, on_map
from genseg.data.regions.interest import epsg_of
from genseg.workflows.labels.corrections import Corrections
from genseg.workflows.labels.result import Converted
from genseg.workflows.labels.to_tools import Offset, slide_and_place

ROI_NAMES = (".zip", "_rois.zip", "-RoiSet.zip", ".roi")  # behind the name of an image
CVAT_XML = "annotations.xml"


def kind_of_export(file: Path) -> str:
    """What a file or a folder is an export of: a key of READERS, or labels for a folder of label
    images. Raises CocoError for another."""
    if file.is_dir():
        endings = {p.suffix.lower() for p in file.rglob("*") if p.is_file()}
        kinds = {".geojson": "geojson", ".zip": "imagej", ".roi": "imagej"}
        return next((kind for end, kind in kinds.items() if end in endings), "labels")
    ending = file.suffix.lower()
    if ending == ".zip":
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise CocoError(f"{file} cannot be opened: {reason_of(error)}") from None
        return "imagej" if any(name.lower().endswith(".roi") for name in names) else "cvat"
    if ending == ".json":
        content = load_json(file)
        if isinstance(content, list):
            features = content and isinstance(content[0], dict) and "geometry" in content[0]
            return "geojson" if features else "labelstudio"
        kind = content.get("type") if isinstance(content, dict) else None
        return "geojson" if kind in ("FeatureCollection", "Feature") else "cvat"
    known = {".geojson": "geojson", ".roi": "imagej", ".xml": "cvat"}
    if ending not in known:
        raise CocoError(
            f"{file}: coco is made of a folder of label images, of QuPath's .geojson or ImageJ's "
            ".zip (or a folder of them), of CVAT's .xml or .zip, of Label Studio's or a COCO "
            ".json, and of YOLO's data.yaml"
        )
    return known[ending]


def from_tool(file: Path, images: str, out: Path, *, offset: Offset = None) -> Converted:
    """Write the COCO json of what a tool has exported: see `kind_of_export`.

    images: a folder, or the COCO json whose instances were corrected: then its ids are kept
    offset: of GeoJSON, as it was given when it was written
    """
    made = Corrections(images)
    return READERS[kind_of_export(file)](file, made, out, offset)


def _each(file: Path, made: Corrections, endings: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """Each image with its file in a folder; one file is that of the image of its name, or of the
    only one."""
    if not file.is_dir():
        i = 0 if len(made.listed) == 1 else made.place(file.stem, file)
        if i is None:
            raise CocoError(
                f"{file}: none of {len(made.listed)} images is called so; give --images that image"
            )
        yield i, file
        return
    plain = {end: named_after_each([file_key(n) for n in made.names], end) for end in endings}
    for i, name in enumerate(made.names):
        spelled = [name, file_key(name)]
        if not made.several[i]:  # images of one file share no name without its suffix
            spelled = [n for whole in spelled for n in (whole, _bare(whole))]
        tried = [t for end in endings for t in (plain[end][i], *(f"{n}{end}" for n in spelled))]
        found = next((p for t in tried if (p := file / t).is_file()), None)
        if found is not None:
            yield i, found


def _bare(name: str) -> str:
    return str(Path(name).with_suffix(""))


def _left_out(count: int) -> list[str]:
    said = f"{amount(count, 'shape')} without an area (points, lines): left out"
    return [said] if count else []


def _refuse_none(made: Corrections, file: Path, example: str) -> None:
    if not made.drawn:
        raise CocoError(
            f"{file}: nothing in it belongs to one of {len(made.listed)} images, the first is "
            f"{made.listed.files[0]}{example}"
        )


def _from_geojson(file: Path, made: Corrections, out: Path, offset: Offset) -> Converted:
    others = 0
    if isinstance(offset, str):  # tiles of slides
        for i, name in enumerate(made.listed.files):
            slide, tile = slide_and_place(file_key(name), offset)
            found = file / f"{slide}.geojson" if file.is_dir() else file
            if found.is_file():
                drawn, more = drawn_in(load_json(found), str(found))
                others += more
                inward = [Drawn(tile.inward(d.shape), d.category, d.number) for d in drawn]  # type: ignore[arg-type]
                made.add(i, [d for d in inward if d.instance(*made.size(i)) is not None])
    else:
        for i, found in _each(file, made, (".geojson", ".json")):
            content = load_json(found)
            place: Place | OnMap = slide_and_place("", offset)[1]
            if (crs := content.get("crs") if isinstance(content, dict) else None) is not None:
                place = _on_map_of(crs, found, made.listed.path(i))
            drawn, more = drawn_in(content, str(found))
            others += more
            made.add(i, [Drawn(place.inward(d.shape), d.category, d.number) for d in drawn])  # type: ignore[arg-type]
    _refuse_none(made, file, ", whose file would be NAME.geojson")
    return made.write(out, missing="a GeoJSON", notes=_left_out(others))


def _on_map_of(crs: Any, file: Path, image: Path) -> OnMap:
    """Where an image lies on the map in whose coordinates a GeoJSON is. Raises CocoError where that
    is another one."""
    found = on_map(image)
    if found is None or epsg_of(crs) != found.epsg:
        said = "does not say where it lies on one" if found is None else f"is in EPSG:{found.epsg}"
        raise CocoError(
            f"{file} is in coordinates of a map, {str(crs)[:80]}, and {image} {said}: export it in "
            "pixels, or in the image's own system"
        )
    return found


def _from_imagej(file: Path, made: Corrections, out: Path, offset: Offset) -> Converted:
    others = 0
    for i, found in _each(file, made, ROI_NAMES):
        drawn, more = drawn_regions(found)
        others += more
        made.add(i, drawn)
    _refuse_none(made, file, ", whose file would be NAME.zip")
    return made.write(out, missing="regions", notes=_left_out(others))


@contextlib.contextmanager
def _opened(file: Path, name: str) -> Iterator[io.BufferedIOBase]:
    """A file, or one in a zip."""
    if file.suffix.lower() != ".zip":
        with file.open("rb") as opened:
            yield opened
    else:
        with zipfile.ZipFile(file) as archive, archive.open(name) as inside:
            yield cast(io.BufferedIOBase, inside)


def _from_cvat(file: Path, made: Corrections, out: Path, offset: Offset) -> Converted:
    """CVAT's xml, or COCO: CVAT's, or of any tool."""
    names = [file.name]
    if file.suffix.lower() == ".zip":
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    if (xml := next((n for n in names if n.endswith(".xml")), None)) is not None:
        return _from_xml(file, xml, made, out)
    jsons = [n for n in names if n.lower().endswith(".json")]
    if not jsons:
        raise CocoError(f"{file} holds no {CVAT_XML} and no json of CVAT, and no .roi of ImageJ")
    notes, unknown = list[str](), list[str]()
    for name in jsons:
        with _opened(file, name) as opened:
            try:
                content = json.load(opened)
            except ValueError as error:
                raise CocoError(f"{file}: {name} is no json: {error}") from None
        unknown += _add_coco(content, f"{file}: {name}", file, made)
    _refuse_none(made, file, "")
    notes += [_unknown(unknown)] if unknown else []
    return made.write(out, missing="annotations there", notes=notes)


def _unknown(names: Sequence[str]) -> str:
    return (
        f"{amount(len(names), 'image')} of the export is not among --images, for example "
        f"{names[0]}: left out"
    )


def _from_xml(file: Path, name: str, made: Corrections, out: Path) -> Converted:
    others, unknown = 0, list[str]()
    with _opened(file, name) as opened:
        for image in drawn_images(opened, str(file)):
            i = made.place(image.name, file)
            if i is None:
                unknown.append(image.name)
                continue
            _same_size(made, i, image.height, image.width, file)
            others += image.others
            made.add(i, image.drawn)
    _refuse_none(made, file, "")
    notes = [*_left_out(others), *([_unknown(unknown)] if unknown else [])]
    return made.write(out, missing="annotations there", notes=notes)


def _same_size(made: Corrections, i: int, height: int, width: int, source: Path) -> None:
    if made.size(i) != (height, width):
        h, w = made.size(i)
        raise CocoError(
            f"{source}: {made.listed.files[i]} has {width} x {height} pixels there, its file "
            f"{w} x {h}"
        )


def _add_coco(content: Any, source: str, file: Path, made: Corrections) -> list[str]:
    """Add the annotations of a COCO json; the names of images that are unknown. Ids are those of an
    attribute `id`, or else the json's own. CVAT calls its brush masks crowds: they are objects."""
    try:
        names = {c["id"]: str(c["name"]) for c in content.get("categories", ())}
        images = {image["id"]: image for image in content["images"]}
        places = {n: made.place(str(image["file_name"]), file) for n, image in images.items()}
        for n, i in places.items():
            if i is not None:
                _same_size(made, i, int(images[n]["height"]), int(images[n]["width"]), file)
                made.add(i, [])
        for a in content["annotations"]:
            i = places.get(a["image_id"])
            if i is not None:
                said = str((a.get("attributes") or {}).get("id", a.get("id")))
                number = int(said) if said.isdecimal() else None
                shape = _segmented(a, *made.size(i))
                made.add(i, [Drawn(shape, names.get(a.get("category_id"), ""), number)])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CocoError):
            raise
        raise CocoError(f"{source} cannot be read as COCO: {error!r}") from None
    return [str(images[n]["file_name"]) for n, i in places.items() if i is None]


def _segmented(a: Any, height: int, width: int) -> Any:
    """The mask of an annotation, as all commands read it."""
    segmentation = a.get("segmentation")
    if not segmentation:
        left, top, w, h = (float(v) for v in a["bbox"])
        segmentation = [[left, top, left + w, top, left + w, top + h, left, top + h]]
    elif isinstance(segmentation, dict):
        run_lengths(segmentation)
    return windowed(code_segmentation(segmentation, height, width))


def _from_label_studio(file: Path, made: Corrections, out: Path, offset: Offset) -> Converted:
    """The last annotation of each task that has one; predictions alone are no labels."""
    others, unknown, waiting = 0, list[str](), 0
    for n, task in enumerate(load_json(file)):
        try:
            done = [a for a in task.get("annotations", ()) if not a.get("was_cancelled")]
            address = str(task["data"]["image"])
            if not done:
                waiting += 1
                continue
            i = made.place(_path_of(address), file)
            if i is None:
                unknown.append(address)
                continue
            drawn, more = drawn_results(done[-1]["result"], *made.size(i))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, CocoError):
                raise
            raise CocoError(f"{file}: task {n} cannot be read: {error!r}") from None
        others += more
        made.add(i, drawn)
    _refuse_none(made, file, "")
    notes = [*_left_out(others), *([_unknown(unknown)] if unknown else [])]
    notes += [f"{amount(waiting, 'task')} without an annotation: left out"] if waiting else []
    return made.write(out, missing="an annotation there", notes=notes)


def _path_of(address: str) -> str:
    """The path of an image in a URL, or behind Label Studio's ?d=; its uploads have 8 digits before
    the name."""
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    folder, name = posixpath.split(path)
    begin, _, rest = name.partition("-")
    uploaded = "upload" in folder and len(begin) == 8 and rest
    return posixpath.join(folder, rest if uploaded else name)


READERS: dict[str, Callable[[Path, Corrections, Path, Offset], Converted]] = {
    "geojson": _from_geojson,
    "imagej": _from_imagej,
    "cvat": _from_cvat,
    "labelstudio": _from_label_studio,
}
