"""Tests of the ``afterglow`` command."""
