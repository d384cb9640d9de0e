"""marigold_rec: an industrial multi-task recommender trainer on TorchRec.

Importing it checks that the installed torch, torchrec and fbgemm builds fit together, and limits
the spinning of OpenMP's waiting threads (GOMP_SPINCOUNT) where the environment leaves it open.
"""

import sys

from marigold_rec.waiting_threads import limit_spinning

__version__ = "0.1.0"

# Here, since every entrypoint imports the package before torch, and torch's OpenMP reads it once.
limit_spinning()

# The doctor (python -m marigold_rec.versions) has to run where this check fails.
if "marigold_rec.versions" not in sys.orig_argv:
    from marigold_rec.versions import check_triple

    check_triple()
