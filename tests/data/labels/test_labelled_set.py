"""Categories of a second split by their names, and subsets."""

from pathlib import Path
from typing import Any

import pytest
from coco_made import CATEGORIES, note, write_blobs, write_json

from genseg.data.images.coco_files import CocoError
from genseg.data.labels.labelled_set import read_labelled

TRAIN = ((3, "cat"), (7, "dog"), (8, "emu"))


def test_classes_are_in_the_order_of_ids(tmp_path: Path) -> None:
    path = write_json(tmp_path, [note(1, 1, 7), note(2, 1, 3)], categories=CATEGORIES[::-1])
    labelled, _ = read_labelled(path, masks=True)
    assert labelled.categories == ((3, "cat"), (7, "dog"))
    assert labelled.images[0].classes.tolist() == [1, 0]


def test_a_second_split_is_mapped_by_name_and_keeps_its_own_ids(tmp_path: Path) -> None:
    own = [{"id": 7, "name": "cat"}, {"id": 3, "name": "owl"}, {"id": 9, "name": "emu"}]
    path = write_json(tmp_path, [note(1, 1, 7), note(2, 1, 3), note(3, 1, 9)], categories=own)
    labelled, findings = read_labelled(path, categories=TRAIN, masks=True)
    assert labelled.images[0].classes.tolist() == [0, 2]
    # 7 is taken: predicted dogs get an id of none
    assert labelled.categories == ((7, "cat"), (10, "dog"), (9, "emu"))
    assert [(f.what, f.count, f.first) for f in findings] == [
        ("annotations of an unknown category", 1, "annotation 2 of 1.png: 3")
    ]


def test_a_subset_is_by_image_id(tmp_path: Path) -> None:
    labelled, _ = read_labelled(write_blobs(tmp_path), masks=True)
    part = labelled.subset([3, 1])
    assert (
        [i.number for i in part.images] == [3, 1]
        and part.categories == labelled.categories
        and part.outlined
    )
    with pytest.raises(CocoError, match="no usable image 9; 1 of 2 ids are unknown"):
        labelled.subset([1, 9])


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (None, "it needs categories, each with an id and a name"),
        ([{"id": 1}], "it needs categories, each with an id and a name"),
        ([], "it has no categories"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "two categories have the id 1"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "two categories have the name a"),
        (
            [{"id": 3, "name": "owl"}],
            r"none of its categories \['owl'\] is one of the training split's \['cat', 'dog'",
        ),
    ],
)
def test_bad_categories(tmp_path: Path, categories: Any, message: str) -> None:
    with pytest.raises(CocoError, match=message):
        read_labelled(
            write_json(tmp_path, [note(1)], categories=categories), categories=TRAIN, masks=True
        )
