"""Measurements, and what to learn from them."""
