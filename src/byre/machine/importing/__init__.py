"""Machines of other hypervisors read: a description each, from hostile text; an image and a profile from that."""
