"""qcow2, versions 2 and 3: header and tables, reading, writing, snapshots, check and repair."""
