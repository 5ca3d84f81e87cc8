"""Machines: the hardware that an image runs on. ``hardware`` is the value that running and exporting share."""
