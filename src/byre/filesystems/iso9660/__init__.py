"""ISO 9660 with Joliet and El Torito, read-only."""
