"""marigold_rec: an industrial multi-task recommender trainer on TorchRec.

Importing it checks that the installed torch, torchrec and fbgemm builds fit together.
"""

import sys

__version__ = "0.1.0"

# The doctor (python -m marigold_rec.versions) has to run where this check fails.
if "marigold_rec.versions" not in sys.orig_argv:
    from marigold_rec.versions import check_triple

    check_triple()
