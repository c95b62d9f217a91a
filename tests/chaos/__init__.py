"""Faults on the running platform."""
