"""Measurements, and their results in results/."""
