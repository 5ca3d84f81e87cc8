"""FAT12, FAT16, FAT32 and exFAT, read-only.

Nothing is imported here: ``detect`` asks ``fat.boot`` of every volume, most of which are NTFS.
"""
