"""Counts how often ids and table rows were seen."""
