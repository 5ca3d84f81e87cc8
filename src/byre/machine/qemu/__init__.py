"""QEMU: its command line from a machine (pure), its process, and QMP, its control protocol."""
