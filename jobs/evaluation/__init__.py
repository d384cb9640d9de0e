"""Implements launch/evaluate.py: finds the checkpoint, scores the rows, writes the report."""
