"""Tests of what serves."""
