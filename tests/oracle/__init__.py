"""Slow and obvious recomputations that the engine is held against."""
