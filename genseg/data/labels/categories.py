"""The categories of COCO jsons."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genseg.data.images.coco_files import CocoError
from genseg.data.labels.entries import as_number
from genseg.data.labels.findings import Tally

Categories = tuple[tuple[int, str], ...]


def read_categories(content: Mapping[str, Any], source: Path, tally: Tally) -> Categories:
    """Ids and names of a json's categories, in its order.

    Without the root that Roboflow adds where another category has its name: the parent of others,
    without labels. Raises CocoError when there is none, or one has no id or name, or that of
    another.
    """
    try:
        listed = [
            (int(as_number(c["id"])), str(c["name"]), c.get("supercategory"))
            for c in content["categories"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CocoError(
            f"{source}: it needs categories, each with an id and a name: {error!r}"
        ) from None
    names, parents = [name for _, name, _ in listed], [parent for _, _, parent in listed]
    roots = {
        n
        for n, name, parent in listed
        if names.count(name) > 1 and name in parents and name != parent
    }
    roots -= {
        n for a in content["annotations"] if isinstance(n := as_number(a.get("category_id")), int)
    }
    for number, name, _ in listed:
        if number in roots:
            tally.add("root", f"category {number}, {name}")
    found = [(n, name) for n, name, _ in listed if n not in roots]
    for what, values in (("id", [str(n) for n, _ in found]), ("name", [name for _, name in found])):
        if twice := [v for v in values if values.count(v) > 1]:
            raise CocoError(
                f"{source}: two categories have the {what} {twice[0]}; give each its own"
            )
    if not found:
        raise CocoError(f"{source}: it has no categories; add one with an id and a name")
    return tuple(found)


def matched(own: Categories, fixed: Categories, source: Path) -> tuple[Categories, dict[int, int]]:
    """The training split's categories with the ids of this json, and the class of each of its
    ids."""
    ids = {name: number for number, name in own}
    place = {name: n for n, (_, name) in enumerate(fixed)}
    if not ids.keys() & place.keys():
        raise CocoError(
            f"{source}: none of its categories {sorted(ids)} is one of the training split's "
            f"{[name for _, name in fixed]}; names have to agree"
        )
    taken = set(ids.values())
    matched = []
    for number, name in fixed:
        if name not in ids and number in taken:  # the json calls another category so
            number = max(taken) + 1
        matched.append((ids.get(name, number), name))
        taken.add(matched[-1][0])
    return tuple(matched), {ids[name]: place[name] for name in ids.keys() & place.keys()}
