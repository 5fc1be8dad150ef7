"""Shaping an energy for the alpha decoder of a run, killed and resumed as often as it happens."""

import contextlib

from genseg import config as configs
from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.names import CONFIG_NAME
from genseg.core.paths import expand
from genseg.nn.kept_reading import reads_as
from genseg.runs import checkpoint
from genseg.runs.folder import write_environment
from genseg.runs.resume import take, usual_of
from genseg.train.watch import Watcher
from genseg.workflows.energy.config import FREE_KEYS, EnergyConfig
from genseg.workflows.energy.parts import assemble_energy, timed, with_steps
from genseg.workflows.energy.session import EnergySession, Shaped


@reads_as("config.alpha")
def shape_energy(
    config: EnergyConfig, *, fresh: bool = False, watch: Watcher | None = None
) -> Shaped:
    """Train, or go on where the run directory stands. Encoder and decoder stay as they are.

    Leaves `config.yaml env.json metrics.jsonl checkpoints/ energy.safetensors` in `config.run`, and
    what `watch` makes of them. Raises ValueError for what a user can mend, RuntimeError (non-finite
    loss or chain, disk full) for what stopped the run.
    """
    run = expand(config.run)
    if run.resolve() == expand(config.alpha).resolve():
        raise ValueError(
            f"run={config.run} is the run of the alpha decoder; give the energy a folder of its own"
        )
    parts = assemble_energy(config)
    if config.minutes is not None:
        known = None if fresh else checkpoint.peek(run)
        steps = int(known["config"]["steps"]) if known else timed(parts, config.minutes)
        with dist.together():
            steps = dist.gather_objects(steps)[0]
        parts = with_steps(parts, steps)
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
            source=f"alpha={config.alpha} or its images",
        )
        with dist.together():
            if main:
                write_environment(run, device=parts.accelerator.device, facts=parts.circumstances)
                write_text(run / CONFIG_NAME, configs.to_yaml(parts.config))
        session = stack.enter_context(contextlib.closing(EnergySession(parts, run, saved, watch)))
        result = session.result(complete=session.train())
    if result.complete and main:
        print(result)
    if session.watch is not None:
        session.watch.done(complete=result.complete)
    return result
