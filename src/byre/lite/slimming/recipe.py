"""A recipe: what is slimmed the same way again, as TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from byre.errors import UsageError
from byre.lite.slimming.plan import Choice
from byre.storage.small_file import read_small_file
from byre.windows.components import Component, built_in_components, read_components
from byre.windows.components.component import PROFILES
from byre.windows.components.loading import check_components

MAX_RECIPE = 1 << 20
_LISTS = ("keep", "drop", "components")


@dataclass(frozen=True, slots=True)
class Recipe:
    """``components`` are the owner's own, read from the files that the recipe names."""

    choice: Choice
    components: tuple[Component, ...] = ()


def read_recipe(path: Path) -> Recipe:
    """Fields: ``profile`` (one of the profiles, or "none"), ``keep`` and ``drop`` (ids and paths), ``keep_needed``,
    ``components`` (files of components, beside the recipe). Raises UsageError with the field, and
    what ``read_small_file`` does."""
    data = read_small_file(path, MAX_RECIPE)
    try:
        content = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the recipe is no TOML: {error}", path=path) from error
    wrong = sorted(set(content) - {"profile", "keep_needed", *_LISTS})
    if wrong:
        raise _wrong(path, wrong[0], "no such field", ", ".join(("profile", "keep_needed", *_LISTS)))
    profile = content.get("profile", "safe")
    if profile not in (*PROFILES, "none"):
        raise _wrong(path, "profile", profile, ", ".join((*PROFILES, "none")))
    give_way = content.get("keep_needed", False)
    if not isinstance(give_way, bool):
        raise _wrong(path, "keep_needed", give_way, "true or false")
    lists = {field: _texts(content.get(field, []), field, path) for field in _LISTS}
    choice = Choice(None if profile == "none" else profile, lists["keep"], lists["drop"], give_way)
    own = tuple(each for name in lists["components"] for each in read_components(path.parent / name))
    mine = {each.id for each in own}
    check_components((*own, *(each for each in built_in_components() if each.id not in mine)), path=str(path))
    return Recipe(choice, own)


def with_options(choice: Choice, *, profile: str | None, keep: list[str], drop: list[str], give_way: bool) -> Choice:
    """The choice with what the command line adds; its profile wins."""
    chosen = choice if profile is None else replace(choice, profile=None if profile == "none" else profile)
    return replace(
        chosen,
        keep=(*chosen.keep, *keep),
        drop=(*chosen.drop, *drop),
        give_way=chosen.give_way or give_way,
    )


def _texts(value: Any, field: str, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise _wrong(path, field, value, "a list of texts")
    return tuple(value)


def _wrong(path: Path, field: str, found: object, expected: str) -> UsageError:
    return UsageError(f"the recipe's {field!r} is not right", path=path, found=repr(found)[:200], expected=expected)
