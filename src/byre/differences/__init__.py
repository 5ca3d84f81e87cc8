"""Two disks, or two snapshots of one, as states of a machine: what changed between them."""
