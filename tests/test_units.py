import pytest

from byre.errors import UsageError
from byre.units import align_up, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("40G", 40 << 30),
        ("1.5T", 3 << 39),
        ("512MiB", 512 << 20),
        ("10MB", 10_000_000),
        ("1k", 1024),
    ],
)
def test_sizes_as_people_type_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "12Q", "1.5", "9E999", "16E", "1BB"])
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_sizes_as_people_read_them() -> None:
    assert [format_size(n) for n in (0, 999, 1536, 40 << 30, 1023 << 20)] == [
        "0 B",
        "999 B",
        "1.5 KiB",
        "40 GiB",
        "1 GiB",
    ]


def test_align_up() -> None:
    assert align_up(1, 512) == 512 and align_up(512, 512) == 512
