"""Watches a training and records what it sees: metrics, rates, memory, warnings, the run's log."""
