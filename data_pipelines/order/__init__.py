"""Decides which rows each rank reads, and in what order."""
