"""Mutated events: what becomes of them, and of everybody else's."""
