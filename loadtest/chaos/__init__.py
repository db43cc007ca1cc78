"""Chaos: the whole system hurt on purpose, and judged from outside by its own published record."""
