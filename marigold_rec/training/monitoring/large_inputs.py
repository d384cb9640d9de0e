"""Names dense inputs that are too large: the first suspects if a loss is beyond reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from marigold_rec.transforms.dense import MAX_DENSE

_NUM_NAMED = 4


def large_inputs(dense_BD: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Returns feature -> largest absolute value of the batch, if beyond MAX_DENSE. Syncs."""
    if not dense_BD.numel():
        return {}
    peaks = dense_BD.detach().abs().amax(dim=0).tolist()
    # Not `>`: what is not finite is too large as well.
    return {n: peak for n, peak in zip(names, peaks, strict=True) if not peak <= MAX_DENSE}


def describe_large_inputs(found: Mapping[str, float]) -> str:
    """Returns `look at the inputs first: ts reaches 1.7e+12 in this batch, ...`."""
    if not found:
        return f"no dense input of this batch is beyond {MAX_DENSE:g}"
    largest = sorted(found.items(), key=lambda item: -item[1])
    said = ", ".join(f"{name} reaches {peak:,.6g}" for name, peak in largest[:_NUM_NAMED])
    more = f" and {len(found) - _NUM_NAMED} more" if len(found) > _NUM_NAMED else ""
    return (
        f"look at the inputs first: {said}{more} in this batch, and the dense part takes numbers "
        "of about -3 to 3: set their transform, clip or standardize (--dry-run shows each column)"
    )
