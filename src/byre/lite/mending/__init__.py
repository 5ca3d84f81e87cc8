"""Mending: what keeps a system from booting elsewhere, put right: each mend a function from facts to a plan."""
