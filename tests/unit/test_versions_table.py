"""The script that runs other versions: the counts and the row that it writes."""

from tests.versions import outcome, with_row

PAGE = """# Versions

| corner | Python | tests |
|---|---|---|
| oldest | 3.11.7 | 1 passed |
| newest | 3.13.0 | 2 passed |

| compiler | tests |
|---|---|
| gcc | pass |
"""


def rows(page):
    return [line for line in page.splitlines() if line.startswith("| ")]


def test_a_row_takes_the_place_of_its_corner_and_python():
    assert rows(with_row(PAGE, ["oldest", "3.11.9", "3 passed"])) == [
        "| corner | Python | tests |",
        "| newest | 3.13.0 | 2 passed |",
        "| oldest | 3.11.9 | 3 passed |",
        "| compiler | tests |",
        "| gcc | pass |",
    ]


def test_another_python_is_another_row():
    page = with_row(PAGE, ["newest", "3.14.1", "3 passed"])
    assert rows(page)[1:4] == [*rows(PAGE)[1:3], "| newest | 3.14.1 | 3 passed |"]


def test_the_counts_of_a_report(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite tests="1541" failures="1" errors="3" skipped="2"/></testsuites>'
    )
    assert outcome(report) == "1,535 passed, 4 **failed**, 2 skipped"
