"""Virtual disks over storage: one ``Disk`` protocol, one module or package for each format."""
