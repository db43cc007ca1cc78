"""The HTTP API, over a store that a replay has filled."""
