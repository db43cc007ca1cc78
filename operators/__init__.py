"""Thin Bytewax adapters: the log, decoding, the lane, publishing."""
