"""Looking along the step's direction: the upper level's only view of the tasks' gradients."""

from marigold_rec.training.probing.context import ProbeContext
from marigold_rec.training.probing.estimators import ESTIMATORS
from marigold_rec.training.probing.gram import representation_gram
from marigold_rec.training.probing.prober import Lookup, Prober, build_prober
from marigold_rec.training.probing.random_stream import random_state

__all__ = [
    "ESTIMATORS",
    "Lookup",
    "ProbeContext",
    "Prober",
    "build_prober",
    "random_state",
    "representation_gram",
]
