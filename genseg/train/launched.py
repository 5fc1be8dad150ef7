"""What a launcher's configuration asks of Accelerate: taken, refused or told, never dropped in
silence."""

import os

SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism of its own",
}
PRECISION = "ACCELERATE_MIXED_PRECISION"


def refuse_sharding() -> None:
    """Raise ValueError when a model is to be split over processes."""
    for name, what in SHARDED.items():
        if os.environ.get(name, "").lower() in ("true", "1"):
            raise ValueError(
                f"Accelerate is configured to use {what}, by its configuration or {name}: genseg "
                "keeps a whole model in each process (DDP). Leave that out, and launch by "
                "accelerate launch --multi_gpu or torchrun"
            )


def check_precision(chosen: str) -> None:
    """Raise ValueError when a launcher wants another precision than the recipe's, `chosen`."""
    told = os.environ.get(PRECISION, "no").lower()
    if told in ("no", chosen):  # no: also what the launcher says when nobody has chosen anything
        return
    remedy = (
        f"leave that out, or say precision={told}" if told in ("bf16", "fp16") else "leave that out"
    )
    raise ValueError(
        f"Accelerate is configured for mixed precision {told}, by its configuration or "
        f"{PRECISION}, and the recipe's precision is {chosen}: {remedy}; genseg knows "
        "precision=auto, no, bf16 and fp16"
    )


def precision_note(chosen: str) -> str | None:
    """A line where a launcher says "no" and the recipe has another precision: nobody may have meant
    it."""
    if os.environ.get(PRECISION, "").lower() != "no" or chosen == "no":
        return None
    return (
        f"precision {chosen}, by the recipe: the launcher's mixed precision, no, is left aside; "
        "precision=no sets it"
    )
