"""Packages and the one native extension; CMakeLists.txt is the real C++ build, CMAKE_ARGS goes to it."""

import os
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# a remark, not a fault, which pip prints in red for every `pip install -e`; other warnings are shown
warnings.filterwarnings("ignore", message="Editable installation")


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
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build_dir), "--target", "_C"], check=True)


setup(
    packages=[
        *find_packages(include=["lamer_fast*"]),
        "lamer_fast.config.recipes",  # data alone; setuptools warns of one that is not named
        "lamer_fast.study.studies",
        *find_packages("kernels", include=["lamer_kernels*"]),
    ],
    package_dir={"lamer_kernels": "kernels/lamer_kernels"},
    package_data={
        "lamer_fast": ["py.typed", "*.pyi", "report/*.html", "report/*.css", "report/*.js"],
        "lamer_fast.config.recipes": ["*.toml", "**/*"],
        "lamer_fast.study.studies": ["*.toml"],
        "lamer_fast.envs.adapters.alfworld": ["alfred.*", "LICENSE.*"],
        "lamer_kernels": ["py.typed"],
    },
    ext_modules=[CMakeExtension("lamer_fast._C")],
    cmdclass={"build_ext": CMakeBuild},
)
