"""Tests of the adapters, on a real broker."""
