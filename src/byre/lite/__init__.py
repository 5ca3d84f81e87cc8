"""Lite: changing what is inside an image: slim, mend, and single files and registry values.

Everything is changed on a scratch disk over the image (``byre.disks.scratch``): ``applying`` hands the changes of a
plan to the writer of each file system. Then the disk is held against the plan, by ``proof`` where it was slimmed, by
``outcome`` else, and only then published, all of it or nothing: as a new image, or by ``saving``, which switches a
qcow2 image in place behind a snapshot.
"""
