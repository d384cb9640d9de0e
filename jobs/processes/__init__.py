"""Starts other programs and stops them, passes signals on, describes the machine."""
