"""Wiring that reads like the picture, and the settings behind it."""
