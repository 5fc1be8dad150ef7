"""Pretraining: from a folder of unlabelled images to an encoder, killed and resumed as often as it
happens."""

import contextlib

from genseg import config as configs
from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.names import BROKEN_NAME, CONFIG_NAME
from genseg.core.paths import expand
from genseg.core.reading import reading
from genseg.runs.folder import write_environment
from genseg.runs.metrics import ProgressLine
from genseg.runs.resume import take, usual_of
from genseg.train.watch import Watcher
from genseg.workflows.pretrain.config import FREE_KEYS, PretrainConfig
from genseg.workflows.pretrain.parts import assemble, goes_on, reading_of
from genseg.workflows.pretrain.session import Pretrained, PretrainSession


def pretrain(
    config: PretrainConfig,
    *,
    fresh: bool = False,
    watch: Watcher | None = None,
    progress: ProgressLine | None = None,
) -> Pretrained:
    """Train, or go on where the run directory stands.

    progress: the line of a command that trains several; then nothing is said of what is as it
        should be

    Leaves `config.yaml env.json metrics.jsonl broken.txt checkpoints/ encoder.safetensors timm/` in
    `config.run`, and what `watch` makes of them. Raises ValueError for what a user can mend,
    RuntimeError (non-finite loss, disk full) for what stopped the run.
    """
    with reading(reading_of(config)) as words:
        if words.inputs != config.data.inputs:
            raise ValueError("a run names its channels itself, by data.channels")
        return _pretrain(config, fresh=fresh, watch=watch, progress=progress)


def _pretrain(
    config: PretrainConfig, *, fresh: bool, watch: Watcher | None, progress: ProgressLine | None
) -> Pretrained:
    run = expand(config.run)
    parts = assemble(config, begun=not fresh and goes_on(run, config))
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
            source=f"the images of {parts.config.data.path}",
        )
        with dist.together():
            if main and saved is None:
                # of a run that was stopped before its first checkpoint
                (run / BROKEN_NAME).unlink(missing_ok=True)
            if main:
                write_environment(run, device=parts.accelerator.device, facts=parts.circumstances)
                # keys that are free may have changed
                write_text(run / CONFIG_NAME, configs.to_yaml(parts.config))
        session = stack.enter_context(
            contextlib.closing(PretrainSession(parts, run, saved, watch, progress))
        )
        result = session.result(complete=session.train())
    if result.complete and main and progress is None:
        print(result)
    if session.watch is not None:
        session.watch.done(complete=result.complete)
    return result
