"""The image that ships with Byre, farm.qcow2, for the demo and for first tries; tools/make_sample.py builds it."""
