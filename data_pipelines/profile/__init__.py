"""Profiles some days in one pass: what the gate compares tonight's data by (docs/gate.md)."""
