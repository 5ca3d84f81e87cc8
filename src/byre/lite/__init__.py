"""Lite: changing what is inside an image: slim, mend, and single files and registry values.

Everything is changed on a scratch disk over the image (``byre.disks.scratch``) and reaches a file only as a whole:
``saving`` writes a new image, or switches a qcow2 image in place behind a snapshot.
"""
