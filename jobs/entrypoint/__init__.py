"""Surrounds a job: flags, logging, errors in plain words, exit codes, the run's folder."""
