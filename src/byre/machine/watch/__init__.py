"""Watching a machine boot from outside: its screen, its memory, its serial line, and what they prove."""
