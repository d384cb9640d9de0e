"""Encoders: from a row's sequence of vectors to one vector."""
