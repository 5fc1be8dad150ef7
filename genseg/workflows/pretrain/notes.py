"""What a run says of its recipe and its images before it begins: nothing of it is an error."""

from collections import Counter
from collections.abc import Iterator

from genseg.core import dist
from genseg.core.words import amount
from genseg.data.images.uneven import notes_on
from genseg.data.labels.findings import format_findings
from genseg.joint import Joint
from genseg.methods.distill import Distill
from genseg.train.launched import precision_note
from genseg.workflows.pretrain.config import PretrainConfig
from genseg.workflows.pretrain.parts import Parts


def notes(parts: Parts) -> Iterator[str]:
    """A line each."""
    yield from _of_classes(parts)
    method = parts.module.method if isinstance(parts.module, Joint) else parts.module
    if isinstance(method, Distill):
        yield f"method.teacher: {method.teacher.facts.name}, {method.teacher.facts.loaded}"
    taught = getattr(getattr(parts.module, "decoder", None), "taught", None)
    if taught is not None:
        yield (
            f"alpha.teacher_level: the decoder takes the features of {taught.facts.name}, "
            f"{taught.teacher.facts.loaded}; generation needs {taught.facts.file}, too"
        )
    if parts.findings:
        yield format_findings(parts.findings)
    for note in (*_of_images(parts), *_of_durations(parts), *_of_numbers(parts)):
        yield f"note: {note}"


def _of_classes(parts: Parts) -> Iterator[str]:
    """Which classes the probe takes from the images, or why it has none."""
    images, probe = parts.images, parts.config.probe
    if probe.train is not None or not parts.plan.steps(probe.every):
        return
    if images.classes:
        names = ", ".join(images.classes[:5]) + (", ..." if len(images.classes) > 5 else "")
        single = sum(count == 1 for count in Counter(images.labels).values())
        if single == len(images.classes):
            yield (
                f"no kNN while training: each of the {single} classes has one image, which no "
                "other can find"
            )
            return
        singles = (
            f"; {single} of them have one image, which votes and is not asked about"
            if single
            else ""
        )
        use = "training and kNN" if parts.config.supervised else "kNN alone"
        yield (f"{len(images.classes)} classes by sub-folder or list, for {use}: {names}{singles}")
        return
    alone = sum("/" not in file for file in images.files)
    stray = f" ({alone} lie in none)" if 0 < alone < 0.1 * len(images) else ""
    yield f"no kNN while training: not every image lies in a sub-folder of its class{stray}"


def _of_images(parts: Parts) -> Iterator[str]:
    """What of the images no run sees, or not in each epoch."""
    images, batch = parts.images, parts.plan.batch
    if more := notes_on(images.paths):
        yield more
    if len(images) < batch:
        yield (
            f"{amount(len(images), 'image')} for a batch of {batch}: they are drawn again, for "
            "new composites each time; an epoch is one batch"
        )
    elif (left := len(images) % batch) > 0.1 * len(images):
        yield (
            f"an epoch leaves out {left} of {len(images)} images, others each time: it is whole "
            f"batches of {batch}"
        )


def _of_durations(parts: Parts) -> Iterator[str]:
    """What the run is too short for."""
    c, plan, method = parts.config, parts.plan, parts.config.method
    if plan.steps(c.optimizer.warmup) > plan.total:
        yield (
            f"optimizer.warmup={c.optimizer.warmup}: the learning rate never reaches its peak; "
            "the run is shorter"
        )
    if hasattr(method, "freeze") and plan.steps(method.freeze) >= plan.total:
        yield (
            f"method.freeze={method.freeze}: the prototypes stand still to the end; the run is "
            "shorter"
        )
    if (
        getattr(method, "queue_start", None)
        and method.queue
        and plan.steps(method.queue_start) >= plan.total
    ):
        yield (
            f"method.queue_start={method.queue_start}: the queue is never used; the run is shorter"
        )


def _of_a_pass(config: PretrainConfig) -> list[str]:
    """What accumulation makes no larger. By how much the first update's loss differs from that of a
    single pass (measured without batch norms, on one small set): SimCLR 0.8, whitening 0.05,
    Sinkhorn and the alpha task below 0.001, MoCo and BYOL not at all."""
    method = config.method
    named = {
        "SimCLR's negatives": method.name == "simclr",
        "whitening (method.head)": getattr(method, "head", "") == "mlp_whiten",
        "SwAV's equal shares (Sinkhorn)": method.name == "swav",
        "the counts that the alpha task's losses are divided by": config.alpha.name != "none",
        "batch norms": True,
    }
    return [name for name, there in named.items() if there]


def _of_numbers(parts: Parts) -> Iterator[str]:
    """Legal settings that are probably a mistake."""
    c, method = parts.config, parts.config.method
    seen = parts.plan.batch // c.accumulate
    if (
        method.name == "moco"
        and method.teacher_norm == "batch"
        and method.splits * dist.world() == 1
    ):
        yield "one batch-norm group for queries and keys lets MoCo cheat; set method.splits=8"
    if c.accumulate > 1:
        once = ", ".join(_of_a_pass(c))
        yield (
            f"accumulate={c.accumulate}: {once} see one pass of {seen} images, not the batch of "
            f"{parts.plan.batch}"
        )
    whitened = seen * sum(v.count for v in parts.views)
    if getattr(method, "head", "") == "mlp_whiten" and whitened < method.dim:
        yield (
            f"whitening wants as many views in a pass as method.dim={method.dim}, or more; it has "
            f"{whitened}"
        )
    if note := precision_note(parts.accelerator.mixed_precision):
        yield note
    if c.data.cache and (large := [v.size for v in parts.views if v.size > c.data.cache]):
        yield (
            f"images are kept at data.cache={c.data.cache} px, and views of {max(large)} px "
            "enlarge them"
        )
