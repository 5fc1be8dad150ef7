"""Pixels of GeoTIFFs on the map, by closed form, and polygons there and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from genseg.core.reading import Reading, reading
from genseg.data.images.coco_files import CocoError
from genseg.data.images.png import write_png
from genseg.data.images.source import decode
from genseg.data.instances.coco import annotation
from genseg.data.instances.instance import Instance
from genseg.data.regions.georeference import OnMap, on_map, pixel_size
from genseg.data.regions.interest import epsg_of, read_interest
from genseg.data.regions.opened import ArrayRegions, open_regions
from genseg.data.regions.originals import open_originals
from genseg.workflows.labels.convert import convert

SCALE, TIE, TRANSFORM, KEYS = 33550, 33922, 34264, 34735


def geotiff(
    file: Path,
    *,
    epsg: int = 32632,
    scale: tuple[float, ...] = (0.5, 0.25, 0.0),
    ties: tuple[float, ...] = (0.0, 0.0, 0.0, 500_000.0, 5_500_000.0, 0.0),
    transform: tuple[float, ...] | None = None,
    point: bool = False,
    geographic: bool = False,
    **more: Any,
) -> Path:
    key = 2048 if geographic else 3072
    directory = [1, 1, 0, 3, 1024, 0, 1, 2 if geographic else 1]
    directory += [1025, 0, 1, 2 if point else 1, key, 0, 1, epsg]
    tags: list[Any] = [(KEYS, "H", len(directory), tuple(directory), True)]
    if transform is not None:
        tags.append((TRANSFORM, "d", 16, transform, True))
    else:
        tags.append((TIE, "d", len(ties), ties, True))
        if scale:
            tags.append((SCALE, "d", 3, scale, True))
    x = np.zeros((40, 60, 3), np.uint8)
    tifffile.imwrite(
        file, x, photometric="rgb", tile=(16, 16), extratags=tags, metadata=None, **more
    )
    return file


SQUARE = [(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 20.0], [0.0, 20.0]]),)]


def test_pixels_by_scale_and_tie_point(tmp_path: Path) -> None:
    """The upper left corner of the first pixel is the tie point; y runs up."""
    found = on_map(geotiff(tmp_path / "a.tif"))
    assert found is not None and found.epsg == 32632 and found.metres
    assert found.steps == (0.25, 0.5)
    ((ring,),) = found.outward(SQUARE)
    x, y = 500_000.0, 5_500_000.0
    assert ring.tolist() == [[x, y - 5], [x + 5, y - 5], [x + 5, y], [x, y]]
    ((back,),) = found.inward([(ring,)])
    assert np.array_equal(back, SQUARE[0][0])


def test_a_tie_point_inside_and_middles_of_pixels(tmp_path: Path) -> None:
    tie = (4.0, 8.0, 0.0, 100.0, 200.0, 0.0)
    area = on_map(geotiff(tmp_path / "a.tif", ties=tie))
    points = on_map(geotiff(tmp_path / "p.tif", ties=tie, point=True))
    assert area is not None and points is not None
    corner = [(np.array([[4.0, 8.0]]),)]
    assert area.outward(corner)[0][0].tolist() == [[100, 200]]
    # the tie is the middle of that pixel, so its corner lies half a pixel before
    assert points.outward(corner)[0][0].tolist() == [[100 - 0.25, 200 + 0.125]]


def test_a_turned_image_by_a_transformation(tmp_path: Path) -> None:
    """x = 2 col - row + 7, y = -col - 2 row + 9."""
    matrix = (2.0, -1.0, 0.0, 7.0, -1.0, -2.0, 0.0, 9.0, *(0.0,) * 4, 0.0, 0.0, 0.0, 1.0)
    found = on_map(geotiff(tmp_path / "a.tif", transform=matrix))
    assert found is not None
    ((ring,),) = found.outward([(np.array([[3.0, 5.0]]),)])
    assert ring.tolist() == [[2 * 3 - 5 + 7, -3 - 2 * 5 + 9]]
    assert found.steps == pytest.approx((5**0.5, 5**0.5))
    assert np.allclose(found.inward([(ring,)])[0][0], [[3, 5]])


def test_systems_are_named_as_gdal_and_qgis_do(tmp_path: Path) -> None:
    degrees = on_map(geotiff(tmp_path / "a.tif", epsg=4326, geographic=True))
    assert degrees is not None and degrees.epsg == 4326 and not degrees.metres
    assert degrees.crs["properties"]["name"] == "urn:ogc:def:crs:OGC:1.3:CRS84"
    metres = on_map(geotiff(tmp_path / "b.tif"))
    assert metres is not None
    assert metres.crs == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}
    assert [epsg_of(p.crs) for p in (degrees, metres)] == [4326, 32632]
    assert epsg_of({"type": "name", "properties": {"name": "a local grid"}}) is None


def test_a_file_has_one_pixel_size_whatever_reads_it(tmp_path: Path) -> None:
    """Of a small GeoTIFF the resolution of its print was taken."""
    printed: dict[str, Any] = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    sizes = {
        geotiff(tmp_path / "metres.tif", **printed): (250_000, 500_000),
        geotiff(tmp_path / "degrees.tif", geographic=True, **printed): None,
    }
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((40, 60, 3), np.uint8), **printed)
    sizes[tmp_path / "plain.tif"] = (0.5, 0.5)
    for file, size in sizes.items():
        windows, whole = open_regions(file), ArrayRegions(decode(file), file)
        found = [windows.pixel_size, whole.pixel_size, open_originals(file).pixel_size]
        assert found == [size and pytest.approx(size)] * 3, file


def test_what_is_no_affine_map_is_refused_and_plain_files_are_none(tmp_path: Path) -> None:
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, np.zeros((9, 9), np.uint8))
    assert on_map(plain) is None and on_map(tmp_path / "none.tif") is None
    with pytest.raises(ValueError, match=r"by 2 tie points alone.* --offset 0,0 stays with"):
        on_map(geotiff(tmp_path / "a.tif", scale=(), ties=(0.0, 0, 0, 1, 2, 0) * 2))
    for n, (tag, values) in enumerate(((34264, (1.0,) * 12), (33550, (1.0,)), (33922, (0.0,) * 4))):
        wrong = tmp_path / f"wrong{n}.tif"
        keys = (34735, "H", 4, (1, 1, 0, 0), True)
        extra = [keys, (tag, "d", len(values), values, True)]
        tifffile.imwrite(wrong, np.zeros((9, 9), np.uint8), extratags=extra, metadata=None)
        assert on_map(wrong) is None and pixel_size(wrong) is None, "tags of wrong lengths"
    with pytest.raises(
        ValueError, match="has no EPSG number; gdal_translate .* --offset 0,0 stays"
    ):
        on_map(geotiff(tmp_path / "b.tif", epsg=32767))


def test_a_place_in_a_system_without_a_number_or_a_name_is_no_error_of_the_image(
    tmp_path: Path,
) -> None:
    """Such images could not be looked at with --level 0; without the directory of keys, a scale and
    a tie point were called tie points alone."""
    geotiff(tmp_path / "own.tif", epsg=32767)
    found = ArrayRegions(np.zeros((40, 60, 3), np.uint8), tmp_path / "own.tif").on_map
    assert found is not None and found.epsg == 0 and found.steps == (0.25, 0.5)
    tags: list[Any] = [
        (TIE, "d", 6, (0.0, 0, 0, 1, 2, 0), True),
        (SCALE, "d", 3, (1.0, 1, 0), True),
    ]
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((9, 9), np.uint8), extratags=tags, metadata=None)
    assert on_map(tmp_path / "x.tif") is None


def a_json(folder: Path, alpha: np.ndarray) -> Path:
    found = annotation(Instance(alpha, 5, 7, 0.9), number=1, image=1, height=40, width=60)
    image = {"id": 1, "file_name": "a.tif", "height": 40, "width": 60}
    content = {"images": [image], "annotations": [found], "categories": [{"id": 1, "name": "x"}]}
    (folder / "found.json").write_text(json.dumps(content))
    return folder / "found.json"


def test_polygons_in_coordinates_of_the_map_and_back(tmp_path: Path) -> None:
    """With a hole: outer rings run as GeoJSON wants them, against the clock on the map."""
    geotiff(tmp_path / "a.tif", epsg=4326, geographic=True)
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[2:4, 3:5] = 0
    file, out = a_json(tmp_path, alpha), tmp_path / "out"
    said = convert(file, "geojson", out)
    assert "in coordinates of EPSG:4326" in said.lines
    content = json.loads((out / "a.geojson").read_text())
    assert content["crs"]["properties"]["name"].endswith("CRS84")
    (feature,) = content["features"]
    outer, hole = feature["geometry"]["coordinates"]
    x, y = (lambda c: 500_000 + c / 2), (lambda r: 5_500_000 - r / 4)
    assert sorted(map(tuple, outer[:-1])) == sorted((x(c), y(r)) for c in (7, 15) for r in (5, 11))
    assert sorted(map(tuple, hole[:-1])) == sorted((x(c), y(r)) for c in (10, 12) for r in (7, 9))
    for ring, sign in ((outer, 1), (hole, -1)):
        a = np.array(ring[:-1])
        area = (a[:, 0] @ np.roll(a[:, 1], -1) - a[:, 1] @ np.roll(a[:, 0], -1)) / 2
        assert sign * area > 0
    convert(out, "coco", tmp_path / "back.json", images=str(file))
    back = json.loads((tmp_path / "back.json").read_text())["annotations"]
    before = json.loads(file.read_text())["annotations"]
    assert [(b["id"], b["segmentation"]) for b in back] == [
        (a["id"], a["segmentation"]) for a in before
    ]
    geotiff(tmp_path / "a.tif")  # in another system
    with pytest.raises(CocoError, match="is in EPSG:32632: export it in pixels"):
        convert(out, "coco", tmp_path / "other.json", images=str(file))


def test_pixels_stay_where_they_are_asked_for_or_the_image_is_not_there(tmp_path: Path) -> None:
    geotiff(tmp_path / "a.tif")
    file = a_json(tmp_path, np.full((6, 8), 255, np.uint8))
    convert(file, "geojson", tmp_path / "pixels", offset="0,0")
    (tmp_path / "a.tif").unlink()
    said = convert(file, "geojson", tmp_path / "missing")
    assert any("1 TIFF not found, so polygons are in pixels" in line for line in said.lines)
    for out in ("pixels", "missing"):
        content = json.loads((tmp_path / out / "a.geojson").read_text())
        assert "crs" not in content
        (ring,) = content["features"][0]["geometry"]["coordinates"]
        assert [7, 5] in ring and [15, 11] in ring


def test_a_region_in_coordinates_of_the_map(tmp_path: Path) -> None:
    place = on_map(geotiff(tmp_path / "a.tif"))
    assert isinstance(place, OnMap)
    rings = [place.outward(SQUARE)[0][0].tolist()]
    geometry = {"type": "Polygon", "coordinates": rings}
    region = tmp_path / "r.geojson"
    for crs, on, why in (
        (place.crs, place, ""),
        (place.crs, None, "does not say where it lies"),
        ({"type": "name", "properties": {"name": "EPSG:3857"}}, place, "EPSG:3857, the image in"),
    ):
        content = {"type": "FeatureCollection", "crs": crs, "features": [{"geometry": geometry}]}
        region.write_text(json.dumps(content))
        if why:
            with pytest.raises(ValueError, match=why):
                read_interest(region, (40, 60), on)
        else:
            interest = read_interest(region, (40, 60), on)
            assert np.array_equal(
                interest.rows(slice(0, 40), (40, 60)),
                np.pad(np.ones((20, 10), bool), ((0, 20), (0, 50))),
            )
            inside = Instance(np.full((2, 2), 255, np.uint8), 18, 8)
            assert interest.holds(inside, (40, 60))
            assert not interest.holds(Instance(inside.alpha, 18, 10), (40, 60))
    for text, why in (("{", "is no GeoJSON"), ('{"type": "Point"}', "holds no polygon")):
        region.write_text(text)
        with pytest.raises(ValueError, match=why):
            read_interest(region, (40, 60), None)


def test_a_region_that_is_not_of_the_image_is_told(tmp_path: Path) -> None:
    """Nothing was found in it, without a word. A list of features is QuPath's, and one without a
    shape QGIS'."""
    file, ring = tmp_path / "field.geojson", [[5, 5], [20, 5], [20, 20], [5, 5]]
    field = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    file.write_text(json.dumps([field, {"type": "Feature", "geometry": None}]))
    assert len(read_interest(file, (40, 60), None).inside) == 1
    field["geometry"]["coordinates"] = [[[x + 500_000, y + 5_500_000] for x, y in ring]]
    file.write_text(json.dumps(field))
    with pytest.raises(
        ValueError, match=r"from 500005,5\.50?e\+06 .* outside of an image of 60 x 40"
    ):
        read_interest(file, (40, 60), None)


def test_a_mask_is_read_as_it_is_whatever_the_run_reads(tmp_path: Path) -> None:
    """Channels and ranges are of the run's images: a mask of 1 became black, or could not be
    read."""
    mask = np.zeros((40, 60), np.uint8)
    mask[:20, :10] = 1
    write_png(tmp_path / "mask.png", mask)
    for told in (Reading(), Reading(channels="2,1"), Reading(ranges=((100.0, 200.0),))):
        with reading(told):
            inside = read_interest(tmp_path / "mask.png", (40, 60), None).inside
        assert np.array_equal(inside, mask > 0)
