"""Machines written for hypervisors: one module a target, pure text from a ``Machine``; ``running`` does the I/O."""
