"""Reading profiles at the edge."""
