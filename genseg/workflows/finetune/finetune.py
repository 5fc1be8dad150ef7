"""Fine-tuning: from labelled images and an encoder to a detector or a segmenter, and what it is
worth."""

import contextlib

from genseg import config as configs
from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.names import CONFIG_NAME, PREFLIGHT_NAME
from genseg.core.paths import expand
from genseg.core.reading import reading
from genseg.data.images.uneven import notes_on
from genseg.data.labels.read import read_labels
from genseg.runs.folder import write_environment
from genseg.runs.resume import take, usual_of
from genseg.train.watch import Watcher
from genseg.workflows.finetune.config import FREE_KEYS, FinetuneConfig
from genseg.workflows.finetune.parts import assemble_finetune
from genseg.workflows.finetune.session import Finetuned, FinetuneSession, Within, findings_text
from genseg.workflows.finetune.start import reading_of


def finetune(
    config: FinetuneConfig,
    *,
    fresh: bool = False,
    within: Within | None = None,
    watch: Watcher | None = None,
) -> Finetuned:
    """Train, or go on where the run directory stands.

    Leaves `config.yaml env.json preflight.txt metrics.jsonl checkpoints/ model.safetensors` in
    `config.run`, with validation data `best.safetensors scores.json`, and what `watch` makes of
    them. Raises ValueError for what a user can mend, RuntimeError (non-finite loss, disk full) for
    what stopped the run.
    """
    with reading(reading_of(config)):
        return _finetune(config, fresh=fresh, within=within, watch=watch)


def _finetune(
    config: FinetuneConfig, *, fresh: bool, within: Within | None, watch: Watcher | None
) -> Finetuned:
    parts = assemble_finetune(config, within.read if within else read_labels)
    run = expand(config.run)
    main = parts.accelerator.is_main_process
    with contextlib.ExitStack() as stack:
        saved = take(
            stack,
            run,
            parts.described,
            usual=usual_of(parts.config),
            main=main,
            fresh=fresh,
            fingerprint=parts.fingerprint,
            free=FREE_KEYS,
            source=f"the labels of {' or '.join(parts.findings)}, or encoder={config.encoder},",
        )
        with dist.together():
            if main:
                val = config.data.val and str(expand(config.data.val).absolute())
                facts = parts.circumstances | {"folder": images_of(config), "val": val}
                write_environment(run, device=parts.accelerator.device, facts=facts)
                if saved is None:
                    write_text(run / CONFIG_NAME, configs.to_yaml(parts.config))
                text = "\n\n".join(
                    f"{file}\n{findings_text(found)}" for file, found in parts.findings.items()
                )
                write_text(run / PREFLIGHT_NAME, text + "\n")
        session = stack.enter_context(
            contextlib.closing(FinetuneSession(parts, run, saved, within, watch))
        )
        session.greet()
        result = session.result(complete=session.train())
    if main and within is None:
        if result.complete:
            print(result)
        if session.watch is not None:
            session.watch.done(complete=result.complete)
    return result


def check(config: FinetuneConfig) -> str:
    """What is in the labels, and what happens to each finding; nothing is trained."""
    with reading(reading_of(config)):
        return _check(config)


def _check(config: FinetuneConfig) -> str:
    tables: list[str] = []
    categories = None  # of the training split, once it is read
    for file in filter(None, (config.data.train, config.data.val)):
        labelled, found = read_labels(file, config.model.name, categories=categories)
        categories = categories or labelled.categories
        labels = f"{sum(len(i.classes) for i in labelled.images)} labels"
        if any(i.semantic for i in labelled.images):
            labels = "a map of classes for each"
        head = (
            f"{file}: {len(labelled.images)} images, {labels}, {len(labelled.categories)} classes"
        )
        more = notes_on(tuple(image.path for image in labelled.images))
        tables.append("\n".join([head, *([more] if more else ()), findings_text(found)]))
    return "\n\n".join(tables)


def images_of(config: FinetuneConfig) -> str:
    """Where the training images are listed: the json, or the images/ beside masks/."""
    root = expand(config.data.train).absolute()
    return str(root / "images" if (root / "masks").is_dir() else root)
