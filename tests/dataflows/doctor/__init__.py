"""The doctor: a fault is planted, and found with its fix."""
