"""Slimming an installed system: what could go, what needs it all the same, and the plan."""
