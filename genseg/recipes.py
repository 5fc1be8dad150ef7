"""The recipes that genseg brings along, by name."""

from pathlib import Path

from genseg.schema import ConfigError

LENGTHS = ("epochs", "steps", "images")
# in the package where it was installed, beside it in a clone
ROOTS = tuple(
    folder / "configs" for folder in (Path(__file__).parents[0], Path(__file__).parents[1])
)


def recipe(given: Path | None, kind: str) -> Path | None:
    """The file that is given, or that of a recipe of `configs/KIND` by its name, as simclr or
    imagenet/moco; None where none is given. Raises ConfigError when there is neither."""
    if given is None or given.is_file():
        return given
    known = recipes(kind)
    name = str(given).removeprefix(f"configs/{kind}/").removesuffix(".yaml")
    if name in known:
        return known[name]
    raise ConfigError(
        f"{given}: there is no such file, and no recipe of that name: {', '.join(known)}"
    )


def recipes(kind: str) -> dict[str, Path]:
    """Name -> file."""
    root = next((r / kind for r in ROOTS if (r / kind).is_dir()), None)
    files = sorted(root.rglob("*.yaml")) if root else []
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in files if root}


def one_length(overrides: list[str]) -> list[str]:
    """Overrides in which a length that is given replaces the recipe's."""
    given = {text.split("=")[0] for text in overrides} & set(LENGTHS)
    return (
        [f"{key}=null" for key in LENGTHS if key not in given] + overrides if given else overrides
    )
