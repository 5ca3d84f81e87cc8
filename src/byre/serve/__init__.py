"""A disk served to other programs: read-only, over NBD."""
