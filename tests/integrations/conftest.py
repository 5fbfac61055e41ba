"""`--nothing-skipped`: where every package is installed, a skipped test is a fault of the environment."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nothing-skipped", action="store_true", help="end with an error if a test was skipped")


def _skipped(config: pytest.Config) -> list[str]:
    """Where and why, of modules too; none without the option."""
    if not config.getoption("nothing_skipped"):
        return []
    reports = config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", [])
    return [f"{report.nodeid}: {report.longrepr[2]}" for report in reports]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in _skipped(config):
        terminalreporter.write_line(f"SKIPPED, and nothing may be: {line}", red=True)
