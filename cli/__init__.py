"""The ``afterglow`` command."""
