"""The verdict in words: what every report begins with. Pure; texts from the guest are not escaped here."""

from __future__ import annotations

from byre.audit.judging import Answer, Prediction, Report

GRADES = {
    "A": "nothing was found",
    "B": "only small things were found",
    "C": "good as far as was seen, with faults or gaps",
    "D": "something is wrong with it",
    "F": "it doesn't start, data is at risk, or it can't be trusted",
}


def heading(report: Report) -> str:
    """Image and grade: the first line."""
    return f"{report.image}: grade {report.grade}{', Extra Quality' if report.extra_quality else ''}"


def verdict(report: Report) -> str:
    """Two sentences that a tired person understands: will it start, and can it be trusted."""
    return f"{_starting(report)} {_trust(answer(report, 'clean'))}"


def outcome(prediction: Prediction) -> str:
    """What a machine would do, without its name."""
    said = prediction.sentence.removeprefix(f"On {prediction.title}: ")
    return said[:1].upper() + said[1:]


def answer(report: Report, question: str) -> Answer:
    """The answer to one question."""
    return next(each for each in report.answers if each.question == question)


def _starting(report: Report) -> str:
    chosen = [each for each in report.predictions if each.target in report.targets]
    stopped = next((each for each in chosen if each.starts is False), None)
    if stopped is not None:
        return stopped.sentence
    untold = next((each for each in chosen if each.starts is None), None)
    if untold is not None:
        return untold.sentence
    machines = [each.title for each in chosen]
    return f"It would start on {_listed(machines)}." if machines else "No machine was asked for."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _trust(clean: Answer) -> str:
    if clean.sentence == "not asked":
        return "Nobody asked whether it is clean."
    if clean.verdict == "unknown":
        return "Whether it is clean is unknown."
    if clean.verdict == "fail":
        return f"{_signs(clean.findings)} found of something that doesn't belong there."
    if clean.findings:
        return f"{_signs(clean.findings)} found of something unusual, none of them grave."
    return "No sign was found of anything that doesn't belong there."


def _signs(count: int) -> str:
    return "1 sign was" if count == 1 else f"{count} signs were"
