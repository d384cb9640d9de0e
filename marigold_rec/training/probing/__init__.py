"""Looking along the step's direction: the upper level's only view of the tasks' gradients."""

from marigold_rec.training.probing.gram import representation_gram
from marigold_rec.training.probing.kept import Kept
from marigold_rec.training.probing.oracles import ORACLES
from marigold_rec.training.probing.prober import Lookup, Prober, build_prober
from marigold_rec.training.probing.random_stream import random_state

__all__ = [
    "ORACLES",
    "Kept",
    "Lookup",
    "Prober",
    "build_prober",
    "random_state",
    "representation_gram",
]
