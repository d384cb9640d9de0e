"""The models: embeddings, and the stages of the dense part that a config can name.

A new stage is one file here and one line in a table of marigold_rec.config.components;
docs/extending.md shows each kind.
"""

from models.build import build_embeddings, build_network

__all__ = ["build_embeddings", "build_network"]
