"""Every setting is documented, in the words of the code."""

from pathlib import Path

from shared.settings import reference

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_of_settings_is_the_one_that_the_code_writes() -> None:
    assert DOCUMENT.read_text() == reference(), "run `make docs`"
