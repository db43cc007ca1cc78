"""Load and latency, measured from outside."""
