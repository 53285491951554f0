"""docs/reliability.md names the tests behind each promise by letter and number."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs" / "reliability.md"


def cited(text):
    """Yield the ids of every list in italics, as *f1, f3* or *n1 to n3*."""
    for found in re.findall(r"\*([a-z]\d+[^*]*)\*", text):
        for first, last in re.findall(r"([a-z]\d+)(?: to ([a-z]\d+))?", found):
            for number in range(int(first[1:]), int((last or first)[1:]) + 1):
                yield f"{first[0]}{number}"


def test_promises_and_tests_name_each_other():
    """Each id that the docs give is that of a test, and there are no others."""
    sources = "\n".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    promised = set(cited(DOCS.read_text()))

    assert len(promised) > 30
    assert promised == set(re.findall(r"^def test_([a-z]\d+)_", sources, re.MULTILINE))
