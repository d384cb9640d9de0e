"""The steps of launch/evaluate.py: which checkpoint, its scores, the report."""
