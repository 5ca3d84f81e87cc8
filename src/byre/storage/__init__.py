"""Bytes somewhere: a local file, memory, a range of another storage."""
