"""Implements launch/train.py: builds, resumes or starts warm, trains, evaluates."""
