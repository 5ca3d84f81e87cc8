"""What is in a partition, read-only: NTFS, FAT and ISO 9660, and the extents of every file."""
