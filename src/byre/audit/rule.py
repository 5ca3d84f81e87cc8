"""What the standard says: one rule, its question and its severity."""

from __future__ import annotations

from dataclasses import dataclass

STANDARD = "EQ 1.0"
SEVERITIES = ("low", "medium", "high", "critical")
QUESTIONS = {
    "sound": "Is the image whole: container, partitions, file systems, hives, program files?",
    "complete": "Is everything there that it needs to boot and to reach the shell?",
    "clean": "Is there any sign of something that doesn't belong?",
    "portable": "Will it find its boot disk on the machine that you chose?",
    "private": "What of somebody's life is still inside?",
    "lean": "What wastes space?",
    "genuine": "Where does it come from?",
}
"""The seven questions, in the order of the report."""
COVERED = ("sound", "complete", "clean", "portable", "private", "lean", "genuine")
"""The questions that have rules so far; the others are unknown in every report."""
GRADED = ("sound", "complete", "clean", "portable", "genuine")
"""The questions that lower the grade; private and lean describe."""
GUESTS = {
    "nt4": "Windows NT 4",
    "nt5": "Windows 2000, XP and Server 2003",
    "nt6": "Windows Vista and 7",
    "reactos": "ReactOS",
}
ALL_GUESTS = tuple(GUESTS)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the standard. ``id`` never changes and is never used again.

    ``title`` is what holds in a good image; ``symptom`` what the user would see: a STOP code or a message;
    ``severity`` that of a plain breach (a finding may carry a lower one and says why); ``required``: Extra Quality
    needs an answer, not only no finding; ``guests``: the kinds of guest it holds for (keys of ``GUESTS``).
    """

    id: str
    question: str
    title: str
    severity: str
    required: bool
    looks_at: str
    why: str
    source: str
    symptom: str
    remedy: str
    guests: tuple[str, ...] = ALL_GUESTS


def rank(severity: str) -> int:
    """The place of a severity, 0 the lowest."""
    return SEVERITIES.index(severity)
