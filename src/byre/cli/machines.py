"""What the verbs about machines share: the options of a profile, and printing one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from byre.cli.layout import facts
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.machine.hardware import Machine
    from byre.machine.impossible import Impossible


def add_profile_options(
    parser: argparse.ArgumentParser, *, target: str = "the machine that this target would give it"
) -> None:
    """--for and --set; ``target`` is what the first means to the verb."""
    group = parser.add_argument_group("the machine")
    group.add_argument(
        "--for",
        dest="target",
        metavar="TARGET",
        default="qemu",
        help=f"{target}: qemu (default), virtualbox, vmware, hyperv, kubevirt, ...",
    )
    group.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="another setting than the profile's, such as nic=e1000, memory=512MiB; may be repeated",
    )


def machine_json(machine: Machine) -> dict[str, object]:
    """Every setting with its reason."""
    from byre.machine.profile import settings

    shown: dict[str, object] = {"name": machine.name, "bus": machine.bus}
    return shown | {name: {"value": choice.value, "reason": choice.reason} for name, choice in settings(machine)}


def problem_json(problem: Impossible) -> dict[str, object]:
    return {
        "setting": problem.setting,
        "value": problem.value,
        "consequence": problem.consequence,
        "remedy": problem.remedy,
        "certain": problem.certain,
    }


def print_machine(console: Printer, machine: Machine) -> None:
    """A line for each setting: its value, then why."""
    from byre.machine.profile import settings

    rows = [(name, shown(name, choice.value), choice.reason) for name, choice in settings(machine)]
    width = max(len(value) for _, value, _ in rows)
    facts(console, [(name, f"{value:<{width}}  {reason}") for name, value, reason in rows])


def shown(name: str, value: Any) -> str:
    """A setting's value as people write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if name == "memory":
        return format_size(int(value))
    if isinstance(value, tuple):
        return ",".join(value) or "nothing"
    return str(value)
