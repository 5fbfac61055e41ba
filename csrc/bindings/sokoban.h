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

inline constexpr std::uint8_t kImpossible = 255;

// Chances of a success by word, [B, 5]; repeats: [B, 120], of each rule.
inline Array<double> Explore(BatchEnv<Sokoban>& self, const py::object& repeats, const py::object& turns,
                             const py::object& episodes, int max_turns, const py::object& env_idx) {
  const Idx idx(env_idx, self.num_envs());
  const auto needed = Need<std::uint8_t>(repeats, "repeats", 2);
  const auto turns_left = Need<std::int32_t>(turns, "turns", 1);
  const auto episodes_left = Need<std::int32_t>(episodes, "episodes", 1);
  if (needed.shape(0) != idx.size() || needed.shape(1) != sokoban::kNumRules ||
      turns_left.size() != idx.size() || episodes_left.size() != idx.size()) {
    throw py::value_error("repeats has shape " + ShapeText(needed) + ", turns " + ShapeText(turns_left) +
                          ", episodes " + ShapeText(episodes_left) + ", expected (" +
                          std::to_string(idx.size()) + ", " + std::to_string(sokoban::kNumRules) +
                          ") and one number a board");
  }
  const auto& config = self.env().config();
  constexpr int kMost = 255;  // turns of an episode, and episodes
  CheckRange("max_turns", max_turns, 1, kMost);
  std::vector<sokoban::Belief> of_boards;
  for (py::ssize_t i = 0; i < idx.size(); ++i) {
    CheckRange("turns", turns_left.at(i), 1, max_turns);
    CheckRange("episodes", episodes_left.at(i), 1, kMost);
    sokoban::Belief& belief = of_boards.emplace_back();
    for (int rule = 0; rule < sokoban::kNumRules; ++rule) {
      const std::uint8_t count = needed.at(i, rule);
      if (count == kImpossible) continue;
      if (rule >= sokoban::NumRules(config.controls) || (count > 0 && config.sticky == 0.0)) {
        throw py::value_error("repeats[" + std::to_string(i) + ", " + std::to_string(rule) + "] is " +
                              std::to_string(count) + ", but " +
                              (count > 0 ? "no move is sticky" : "its controls have no such rule"));
      }
      sokoban::RuleSet one;
      one.Add(rule);
      belief.Add(count, one);
    }
    if (belief.Empty()) throw py::value_error("repeats[" + std::to_string(i) + "] leaves no rule");
  }
  constexpr std::size_t kNumActions = Sokoban::kNumActions;
  Array<double> values({idx.size(), static_cast<py::ssize_t>(kNumActions)});
  const auto t = In(turns_left), e = In(episodes_left);
  const auto out = Out(values);
  const py::gil_scoped_release release;
  self.Map(idx.idx, of_boards.size() + 1, [&](std::size_t i, const Sokoban::Board& board) {
    self.env().Explore(board, of_boards[i], t[i], e[i], max_turns, out.subspan(i * kNumActions, kNumActions));
  });
  return values;
}

inline void BindSokoban(py::module_& m) {
  using Batch = BatchEnv<Sokoban>;
  Bind<Sokoban>(m, "SokobanBatch")
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_boxes, int min_moves, int max_moves,
                       const std::string& controls, bool held_out_rules, double sticky, bool show_moves,
                       bool track_dead, bool end_on_dead, const py::object& rewards,
                       const std::optional<std::vector<std::string>>& levels) {
             Sokoban::Config config{.height = height,
                                    .width = width,
                                    .num_boxes = num_boxes,
                                    .min_moves = min_moves,
                                    .max_moves = max_moves,
                                    .controls = sokoban::ParseControls(controls),
                                    .held_out_rules = held_out_rules,
                                    .sticky = sticky,
                                    .show_moves = show_moves,
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
           py::arg("max_moves") = 21, py::arg("controls") = "plain", py::arg("held_out_rules") = false,
           py::arg("sticky") = 0.0, py::arg("show_moves") = false, py::arg("track_dead") = false,
           py::arg("end_on_dead") = false, py::arg("rewards") = "lamer", py::arg("levels") = py::none())
      .def_property_readonly("height", [](const Batch& self) { return self.env().config().height; })
      .def_property_readonly("width", [](const Batch& self) { return self.env().config().width; })
      .def_property_readonly("controls",
                             [](const Batch& self) {
                               constexpr const char* kNames[] = {"plain", "permuted", "broken"};
                               return kNames[static_cast<int>(self.env().config().controls)];
                             })
      .def_property_readonly("sticky", [](const Batch& self) { return self.env().config().sticky; })
      .def_property_readonly("num_levels",
                             [](const Batch& self) {
                               const auto& levels = self.env().config().levels;
                               return levels ? levels->levels.size() : std::size_t{0};
                             })
      .def("rules", &Rules<Batch>, py::arg("env_idx") = py::none())
      .def(
          "state_hashes",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            constexpr std::size_t kNum = Sokoban::kNumActions + 2;
            Array<std::int64_t> hashes({idx.size(), static_cast<py::ssize_t>(kNum)});
            const auto out = Out(hashes);
            self.Map(idx.idx, Batch::kMinStepChunk, [&](std::size_t i, const Sokoban::Board& board) {
              self.env().StateHashes(board, out.subspan(i * kNum, kNum));
            });
            return hashes;
          },
          py::arg("env_idx") = py::none())
      .def("explore", &Explore, py::arg("repeats"), py::arg("turns"), py::arg("episodes"), py::kw_only(),
           py::arg("max_turns"), py::arg("env_idx") = py::none())
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
  // [120, 5]: the move that each word makes, by rule.
  m.def("sokoban_rules", [] {
    Array<std::int32_t> rules({sokoban::kNumRules, sokoban::kNumWords});
    for (int rule = 0; rule < sokoban::kNumRules; ++rule) {
      for (int word = 0; word < sokoban::kNumWords; ++word) {
        rules.mutable_at(rule, word) =
            sokoban::kRules[static_cast<std::size_t>(rule)][static_cast<std::size_t>(word + 1)] - 1;
      }
    }
    return rules;
  });
}

}  // namespace lamer::bindings
