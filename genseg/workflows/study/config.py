"""The keys of `genseg study`: what a study's file holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from genseg import config as configs
from genseg.core.check import above, at_least
from genseg.schema import ConfigError
from genseg.workflows.study.measures import MEASURES, SECONDS, TransferConfig, given_by
from genseg.workflows.study.statements import parse_statement

METRIC = "knn"


@dataclass(frozen=True)
class ArmConfig:
    """What an arm does otherwise than the study says."""

    # pretrain; random: random weights as they are; fitted: with batch norms fitted to the images
    kind: Literal["pretrain", "random", "fitted"] = "pretrain"
    recipe: str | None = None  # a recipe of genseg pretrain; null: the study's
    keys: tuple[str, ...] = ()  # key=value of the recipe, over those of the study
    start: str | None = None  # the arm whose weights, of the same seed, it begins with
    images: float = 1.0  # images seen, in multiples of the study's
    subset: float = 1.0  # images to learn from, in multiples of the study's subset

    def __post_init__(self) -> None:
        above(0, images=self.images, subset=self.subset)
        if self.kind != "pretrain" and self.start is not None:
            raise ValueError(f"kind={self.kind} is not trained, so it starts from no other arm")


@dataclass(frozen=True)
class ShortConfig:
    """What --short takes in place of the same keys of the study; null: the study's."""

    seeds: int | None = None
    images: float | None = None
    subset: int | None = None
    limit: int | None = None
    arms: tuple[str, ...] = ()  # the arms that are run; none: all


@dataclass(frozen=True)
class StudyConfig:
    data: str  # a folder of class folders; with train/ and test/, or a tenth is held out
    claim: str  # what the study is about, in a sentence
    arms: dict[str, ArmConfig]  # by name; the first is the baseline of the table
    images: float  # images that an arm sees in training
    recipe: str = "simclr"  # a recipe of genseg pretrain
    keys: tuple[str, ...] = ()  # key=value of the recipe, for all arms
    seeds: int = 3  # trainings of each arm
    subset: int = 0  # images to learn from, drawn evenly over classes by the seed; 0: all
    measures: tuple[str, ...] = ("knn",)  # what is measured of each encoder
    metric: str = METRIC  # the number of the table, the differences and the plot
    # what the claim says of the arms: "a > b", "a - b > c - d on linear", "a > b + 0.01"
    statements: tuple[str, ...] = ()
    cka: bool = False  # also how alike the arms' features of the same images are
    # a number that all others are to predict: their rank correlations with it over all encoders
    correlate: str | None = None
    # arms whose metric, over seconds of training, is continued to where it reaches that of the last
    reach: tuple[str, ...] = ()
    limit: int = 5000  # at most this many images of each split are measured on; 0: all
    # a file of word vectors in GloVe's text format, and classes that are held out, for keys of arms
    # that name ${words} and ${unseen}
    words: str = ""
    unseen: tuple[str, ...] = ()
    transfer: TransferConfig = field(default_factory=TransferConfig)
    short: ShortConfig = field(default_factory=ShortConfig)

    def __post_init__(self) -> None:
        at_least(1, seeds=self.seeds)
        at_least(0, subset=self.subset, limit=self.limit)
        above(0, images=self.images)
        if not self.arms:
            raise ValueError("arms: name at least one, as in arms={simclr: {}}")
        for name in self.arms:
            if not re.fullmatch(r"[\w-]*[^\W\d][\w-]*", name):
                raise ValueError(
                    f"arms.{name}: a name has letters, digits, - and _, and one letter at least"
                )
        for key, named in (("short.arms", self.short.arms), ("reach", self.reach)):
            if unknown := [n for n in named if n not in self.arms]:
                raise ValueError(f"{key}: there is no arm {unknown[0]}; {self._known}")
        for name, arm in self.arms.items():
            self.chain(name)
            if "method.target.words=" in arm.keys and not self.words:
                raise ValueError(
                    f"arms.{name} learns from word vectors: give words=FILE, in GloVe's text format"
                )
        if unknown := [m for m in self.measures if m not in MEASURES]:
            raise ValueError(f"measures: {unknown[0]} is none; choose of {', '.join(MEASURES)}")
        for text in self.statements:
            statement = parse_statement(text)
            if unknown := [n for n in statement.arms if n not in self.arms]:
                raise ValueError(
                    f"statements: {text!r}: there is no arm {unknown[0]}; {self._known}"
                )
            self._check_number(f"statements: {text!r}", statement.measure)
        if self.metric != METRIC:
            self._check_number(f"metric={self.metric}", self.metric)
        self._check_number(f"correlate={self.correlate}", self.correlate)

    def _check_number(self, where: str, name: str | None) -> None:
        """Raise ValueError for a number that no measure of the study can give."""
        if name is None or name == SECONDS or any(given_by(m, name) for m in self.measures):
            return
        able = [m for m in MEASURES if given_by(m, name)]
        advice = f"add {able[0]} to measures" if able else "there is no number of that name"
        raise ValueError(f"{where}: measures={list(self.measures)} give no {name}; {advice}")

    @property
    def _known(self) -> str:
        return f"the arms are {', '.join(self.arms)}"

    def chain(self, name: str) -> list[str]:
        """The arms that an arm starts from, the first one first, and itself. Raises ValueError for
        a circle, and for an arm that there is not."""
        found = [name]
        while (start := self.arms[found[0]].start) is not None:
            if start not in self.arms:
                raise ValueError(f"arms.{found[0]}.start={start}: {self._known}")
            if start in found:
                raise ValueError(f"arms.{name}.start: {' <- '.join([start, *found])} is a circle")
            found.insert(0, start)
        return found


def load_study(file: Path, overrides: Sequence[str], *, short: bool = False) -> StudyConfig:
    """A study's file with `overrides`; in its short form, whose values are below those of
    `overrides`. Raises ConfigError."""
    config = configs.load(StudyConfig, file=file, overrides=overrides)
    return shortened(config, {o.partition("=")[0].strip() for o in overrides}) if short else config


def shortened(config: StudyConfig, given: set[str]) -> StudyConfig:
    """The short form of a study; keys that were `given` stay."""
    short: dict[str, Any] = {
        f.name: value
        for f in fields(ShortConfig)
        if f.name != "arms" and f.name not in given
        if (value := getattr(config.short, f.name)) is not None
    }
    if wanted := config.short.arms:
        needed = {n for name in wanted for n in config.chain(name)}
        short["arms"] = {n: arm for n, arm in config.arms.items() if n in needed}
        short["statements"] = tuple(
            s for s in config.statements if parse_statement(s).arms <= needed
        )
        short["reach"] = config.reach if needed.issuperset(config.reach) else ()
    try:
        return replace(config, **short)
    except ValueError as error:
        raise ConfigError(f"short: {error}") from None
