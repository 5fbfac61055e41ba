// lamer_fast._C.SokobanBatch: its options, and what only Sokoban has.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/batch.h"
#include "bindings/config.h"
#include "envs/sokoban/rules.h"

namespace lamer::bindings {

inline void BindSokoban(py::module_& m) {
  using Batch = BatchEnv<Sokoban>;
  Bind<Sokoban>(m, "SokobanBatch")
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_boxes, int min_moves, int max_moves, bool track_dead,
                       bool end_on_dead, const py::object& rewards,
                       const std::optional<std::vector<std::string>>& levels) {
             Sokoban::Config config{.height = height,
                                    .width = width,
                                    .num_boxes = num_boxes,
                                    .min_moves = min_moves,
                                    .max_moves = max_moves,
                                    .track_dead = track_dead,
                                    .end_on_dead = end_on_dead,
                                    .rewards = {},
                                    .levels = nullptr};
             auto& r = config.rewards;
             ReadRewards(rewards, {{"step", &r.step},
                                   {"on", &r.on},
                                   {"off", &r.off},
                                   {"win", &r.win},
                                   {"dead", &r.dead},
                                   {"invalid", &r.invalid}});
             if (levels) config.levels = std::make_shared<sokoban::LevelSet>(sokoban::ReadLevels(*levels));
             return std::make_unique<Batch>(
                 num_envs, config, MakeBatchConfig(num_threads, split, turn_reward, stop_at_done, autoreset));
           }),
           py::arg("num_envs"), py::kw_only(), py::arg("num_threads") = 1, py::arg("split") = py::none(),
           py::arg("turn_reward") = "sum", py::arg("stop_at_done") = true, py::arg("autoreset") = "none",
           py::arg("height") = 6, py::arg("width") = 6, py::arg("num_boxes") = 2, py::arg("min_moves") = 5,
           py::arg("max_moves") = 21, py::arg("track_dead") = false, py::arg("end_on_dead") = false,
           py::arg("rewards") = "lamer", py::arg("levels") = py::none())
      .def_property_readonly("height", [](const Batch& self) { return self.env().config().height; })
      .def_property_readonly("width", [](const Batch& self) { return self.env().config().width; })
      .def_property_readonly("num_levels",
                             [](const Batch& self) {
                               const auto& levels = self.env().config().levels;
                               return levels ? levels->levels.size() : std::size_t{0};
                             })
      .def(
          "distances",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            Array<std::int32_t> distances(idx.size());
            auto* out = distances.mutable_data();
            const py::gil_scoped_release release;
            self.Map(idx.idx, Batch::kMinResetChunk,
                     [&](std::size_t i, Sokoban::Board& board) { out[i] = self.env().Distance(board); });
            return distances;
          },
          py::arg("env_idx") = py::none());
}

}  // namespace lamer::bindings
