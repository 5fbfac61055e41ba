"""Which extra of the package brings a module that is not installed."""

import re
from importlib import metadata

OWN, KERNELS = "lamer-fast", "lamer-kernels"
REQUIREMENT = re.compile(r"""([\w.-]+).*\bextra\s*==\s*["']([\w.-]+)["']""")


def how_to_install(module: str | None) -> str:
    """One line for a module that an import did not find; empty for one that no extra brings."""
    name = _normalised((module or "").partition(".")[0])
    if name == OWN:  # which its extras name too
        return ""
    if name == KERNELS:  # in no index, unlike what else an extra brings
        how = f"pip install --force-reinstall --no-deps ./kernels (or the wheel of {KERNELS})"
        return (
            f"{module} is not there: {how}; uninstalling an older {OWN}, which contained it, took its files"
        )
    try:
        requirements = metadata.requires(OWN) or []
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return ""
    found = [match.groups() for match in map(REQUIREMENT.match, requirements) if match]
    extras = [extra for package, extra in found if _normalised(package) == name]
    return f"{module} is not installed: pip install '{OWN}[{extras[0]}]'" if extras else ""


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
