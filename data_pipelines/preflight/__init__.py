"""Checks before a run starts that its data has what the config needs."""
