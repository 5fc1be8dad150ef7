"""Paths as users write them."""

from pathlib import Path

import pytest

from genseg.core.paths import EMBEDDED, exists, expand
from genseg.data.images.files import list_images
from genseg.data.images.source import decode
from genseg.data.instances.coco import read_json


def test_home_is_expanded_and_a_home_that_cannot_be_determined_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert expand("~/photos") == Path("/somewhere/photos")
    assert expand("photos/~") == Path("photos/~")
    assert expand("~nobody-of-that-name/photos") == Path("~nobody-of-that-name/photos")


def test_a_name_that_no_file_can_have_does_not_exist(tmp_path: Path) -> None:
    assert exists(tmp_path)
    assert not exists(tmp_path / ("x" * 5000))
    assert not exists(Path("a\0b"))


def test_shipped_nuclei_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expand("embedded:nuclei/train") == EMBEDDED / "nuclei" / "train"
    assert len(list_images("embedded:nuclei/train")) == 29
    test = list_images("embedded:nuclei/test.json")
    content = read_json(expand("embedded:nuclei/test.json"))
    sizes = {i["file_name"]: (i["height"], i["width"]) for i in content["images"]}
    assert len(test) == 10 and len(content["annotations"]) == 207
    assert all(decode(test.path(i)).shape[:2] == sizes[test.files[i]] for i in range(10))
    groups = {i["group"] for i in content["images"]}
    assert len(groups) == 10, "one image of a field of view"


def test_what_is_not_shipped_is_an_error_that_names_what_is() -> None:
    with pytest.raises(
        ValueError, match=r"embedded:cells does not exist; genseg ships .*embedded:nuclei/train"
    ):
        expand("embedded:cells")
    with pytest.raises(ValueError, match="embedded:nuclei/../../schema.py does not exist"):
        expand("embedded:nuclei/../../schema.py")


def test_shipped_images_are_small() -> None:
    assert sum(f.stat().st_size for f in EMBEDDED.rglob("*") if f.is_file()) < 2e6
