"""Packages and the one native extension; CMakeLists.txt is the real C++ build, CMAKE_ARGS goes to it.

The kernels are a distribution of their own (kernels/pyproject.toml), which this one asks for.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).parent.resolve()
# a remark, not a fault, which pip prints in red for every `pip install -e`; other warnings are shown
warnings.filterwarnings("ignore", message="Editable installation")


COMPILERS = ("c++", "g++", "clang++", "icpx")
NEEDS = (
    "lamer-fast has its games in C++20, for GCC 12 or clang 14 and later. A wheel needs no compiler: "
    "pip install --only-binary lamer-fast lamer-fast, or a file that ends in .whl"
)


def check_tools() -> None:
    """Raises CompileError: CMake or a compiler is missing, which CMake tells in forty lines."""
    if shutil.which("cmake") is None:
        raise CompileError("cmake was not found: pip install cmake ninja, or leave out --no-build-isolation")
    given = os.environ.get("CXX") or re.search(
        "CMAKE_CXX_COMPILER|TOOLCHAIN", os.environ.get("CMAKE_ARGS", "")
    )
    if not given and not any(map(shutil.which, COMPILERS)):
        raise CompileError(
            f"no C++ compiler was found: no {', '.join(COMPILERS)} in PATH, and CXX is not set; {NEEDS}. "
            "Debian and Ubuntu have one in the package g++, Fedora in gcc-c++, conda in cxx-compiler"
        )


class CMakeExtension(Extension):
    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Builds in a fixed folder, so that editable installs are incremental and header edits rebuild."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]  # fmt: skip
        check_tools()
        try:
            subprocess.run(configure, check=True)
            subprocess.run(["cmake", "--build", str(build_dir), "--target", "_C"], check=True)
        except subprocess.CalledProcessError as error:
            raise CompileError(f"the games were not built, for the reason above; {NEEDS}") from error


setup(
    packages=[
        *find_packages(include=["lamer_fast*"]),
        "lamer_fast.config.recipes",  # data alone; setuptools warns of one that is not named
        "lamer_fast.study.studies",
        "lamer_fast.study.models",
        "lamer_fast.study.models.common",
    ],
    package_data={
        "lamer_fast": ["py.typed", "*.pyi", "report/*.html", "report/*.css", "report/*.js"],
        "lamer_fast.config.recipes": ["*.toml", "**/*"],
        "lamer_fast.study.studies": ["*.toml"],
        "lamer_fast.study.models": ["*.toml"],
        "lamer_fast.study.models.common": ["*.toml"],
        "lamer_fast.envs.adapters.alfworld": ["alfred.*", "LICENSE.*"],
    },
    ext_modules=[CMakeExtension("lamer_fast._C")],
    cmdclass={"build_ext": CMakeBuild},
)
