"""Reads label columns, and tells which labels are final by when their events happened."""
