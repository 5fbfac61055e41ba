// The Python module: one Bind call per game. Only this file and bindings/ include pybind11.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "bindings/alfworld.h"
#include "bindings/minesweeper.h"
#include "bindings/sokoban.h"
#include "core/simd.h"
#include "core/split.h"
#include "core/too_large.h"

PYBIND11_MODULE(_C, m) {
  namespace py = pybind11;
  py::register_exception<lamer::TooLarge>(m, "TooLarge", PyExc_ValueError);
  lamer::bindings::BindSokoban(m);
  lamer::bindings::BindAlfworld(m);
  lamer::bindings::BindMinesweeper(m);
  m.def("set_simd_level", [](const std::string& name) { lamer::SetSimdLevel(name); }, py::arg("name"));
  m.def("simd_level", [] { return lamer::kSimdNames[static_cast<int>(lamer::ActiveSimd())]; });
  m.def(
      "split_of", [](std::uint64_t task) { return lamer::SplitName(lamer::SplitOf(task)); }, py::arg("task"));
}
