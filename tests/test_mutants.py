"""The mutants of `python tests/mutants.py` still fit the code that they break."""

import pytest

from tests.mutants import MUTANTS, ROOT


@pytest.mark.parametrize(("what", "name", "text", "replacement"), MUTANTS)
def test_what_a_mutant_breaks_is_there(what, name, text, replacement) -> None:
    assert text in (ROOT / name).read_text(encoding="utf-8"), what
    assert replacement != text
