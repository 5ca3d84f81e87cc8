"""Text as the keys that a US keyboard has it on, in QMP's names (``QKeyCode``)."""

from __future__ import annotations

import re

from byre.errors import UsageError

MAX_TEXT = 10_000
_PLAIN = {
    " ": "spc", "\n": "ret", "\t": "tab", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right",
    ";": "semicolon", "'": "apostrophe", "`": "grave_accent", "\\": "backslash", ",": "comma", ".": "dot",
    "/": "slash",
}  # fmt: skip
_SHIFTED = {
    "!": "1", "@": "2", "#": "3", "$": "4", "%": "5", "^": "6", "&": "7", "*": "8", "(": "9", ")": "0", "_": "minus",
    "+": "equal", "{": "bracket_left", "}": "bracket_right", ":": "semicolon", '"': "apostrophe", "~": "grave_accent",
    "|": "backslash", "<": "comma", ">": "dot", "?": "slash",
}  # fmt: skip
NAMES = {
    "enter": "ret", "return": "ret", "space": "spc", "esc": "esc", "escape": "esc", "del": "delete", "ins": "insert",
    "pageup": "pgup", "pagedown": "pgdn", "win": "meta_l", "super": "meta_l", "menu": "menu", "print": "print",
}  # fmt: skip
_KNOWN = re.compile(
    r"[a-z0-9]|f([1-9]|1[0-2])|ctrl|alt|shift|alt_r|ctrl_r|shift_r|meta_l|meta_r|ret|spc|tab|esc|backspace|delete|"
    r"insert|home|end|pgup|pgdn|up|down|left|right|caps_lock|num_lock|scroll_lock|pause|sysrq|print|menu|minus|equal|"
    r"bracket_left|bracket_right|semicolon|apostrophe|grave_accent|backslash|comma|dot|slash|kp_enter"
)


def keys_of(text: str) -> tuple[tuple[str, ...], ...]:
    """The keys of each character, held together: ``A`` is (shift, a). UsageError for one that isn't on the board."""
    if len(text) > MAX_TEXT:
        raise UsageError(
            "the text is too long to be typed", found=len(text), expected=f"at most {MAX_TEXT} characters"
        )
    return tuple(_keys(character) for character in text)


def _keys(character: str) -> tuple[str, ...]:
    if character.isascii() and character.isalnum():
        return ("shift", character.lower()) if character.isupper() else (character,)
    if character in _PLAIN:
        return (_PLAIN[character],)
    if character in _SHIFTED:
        return ("shift", _SHIFTED[character])
    raise UsageError(
        f"{character!r} isn't on a US keyboard", hint="Name keys with --keys, for example --keys alt-tab."
    )


def chord(text: str) -> tuple[str, ...]:
    """``ctrl-alt-delete`` as keys that are held together."""
    words = [NAMES.get(word, word) for word in text.lower().split("-")]
    wrong = [word for word in words if not _KNOWN.fullmatch(word)]
    if wrong or not 1 <= len(words) <= 6:
        raise UsageError(
            f"there is no key {wrong[0]!r}" if wrong else "too many keys at once",
            found=text,
            hint="For example: ctrl-alt-delete, alt-f4, f8, enter, shift-tab.",
        )
    return tuple(words)
