// Options from Python that all games share.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "core/batch_config.h"

namespace lamer::bindings {

inline BatchConfig MakeBatchConfig(int num_threads, const std::optional<std::string>& split,
                                   const std::string& turn_reward, bool stop_at_done,
                                   const std::string& autoreset) {
  if (turn_reward != "sum" && turn_reward != "last") {
    throw py::value_error("turn_reward must be 'sum' or 'last', got '" + turn_reward + "'");
  }
  return {.num_threads = num_threads,
          .split = split ? ParseSplit(*split) : Split::kNone,
          .last_reward = turn_reward == "last",
          .stop_at_done = stop_at_done,
          .autoreset = ParseAutoreset(autoreset)};
}

// rewards: "lamer", "sparse", or a dict of the named numbers; a name that it leaves out is 0.
using NamedRewards = std::vector<std::pair<const char*, double*>>;
inline void ReadRewards(const py::object& value, const NamedRewards& fields) {
  if (py::isinstance<py::str>(value)) {
    const auto name = py::cast<std::string>(value);
    if (name == "lamer") return;  // the defaults
    if (name != "sparse")
      throw py::value_error("rewards must be 'lamer', 'sparse' or a dict, got '" + name + "'");
    for (const auto& [field, number] : fields) *number = std::string_view(field) == "win" ? 10.0 : 0.0;
    return;
  }
  if (!py::isinstance<py::dict>(value)) {
    throw py::type_error("rewards must be 'lamer', 'sparse' or a dict, got " + TypeName(value));
  }
  for (const auto& [field, number] : fields) *number = 0.0;
  std::string names;
  for (const auto& [field, number] : fields) names.append(field).append(" ");
  for (const auto& [key, number] : py::cast<py::dict>(value)) {
    const std::string name = py::str(key);
    const auto at =
        std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.first == name; });
    if (at == fields.end()) throw py::value_error("rewards has '" + name + "', expected some of " + names);
    if (!PyFloat_Check(number.ptr()) && !PyLong_Check(number.ptr())) {
      throw py::type_error("reward " + name + " must be a number, got " + TypeName(number));
    }
    *at->second = py::cast<double>(number);
    if (!std::isfinite(static_cast<float>(*at->second))) {
      throw py::value_error("reward " + name + " must be a finite float32, got " +
                            std::string(py::str(number)));
    }
  }
}

}  // namespace lamer::bindings
