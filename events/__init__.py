"""The vocabulary: what an event is, how it is read, and a shop that makes some up."""
