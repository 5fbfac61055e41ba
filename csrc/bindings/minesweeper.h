// lamer_fast._C.MinesweeperBatch and MinesweeperLargeBatch: their options, and what only Minesweeper has.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/batch.h"
#include "bindings/config.h"
#include "envs/minesweeper/hidden.h"
#include "envs/minesweeper/rules.h"

namespace lamer::bindings {

// Boards with given mines, as reset makes them. No board changes unless all can be laid.
template <typename Env>
void LayBoards(BatchEnv<Env>& self, const py::object& mines, const py::object& first,
               const py::object& env_idx) {
  const Idx idx(env_idx, self.num_envs());
  const auto is_mine = Need<bool>(mines, "mines", 2);
  const auto cells = Need<std::int32_t>(first, "first", 1);
  const py::ssize_t num_cells = self.env().num_actions();
  if (is_mine.shape(0) != idx.size() || is_mine.shape(1) != num_cells || cells.size() != idx.size()) {
    throw py::value_error("mines has shape " + ShapeText(is_mine) + " and first " + ShapeText(cells) +
                          ", expected (" + std::to_string(idx.size()) + ", " + std::to_string(num_cells) +
                          ") and (" + std::to_string(idx.size()) + ",)");
  }
  std::vector<typename Env::Board> boards(idx.idx.size());
  for (std::size_t i = 0; i < boards.size(); ++i) {
    const auto row = static_cast<py::ssize_t>(i);
    self.env().Lay(boards[i], In(is_mine).subspan(i * num_cells, num_cells), cells.at(row));
  }
  self.Map(idx.idx, boards.size() + 1, [&](std::size_t i, typename Env::Board& board) { board = boards[i]; });
}

inline void ReadBoardConfig(mines::BoardConfig& config, int height, int width, int num_mines,
                            const std::string& first_click, bool no_guess, int max_tries) {
  if (first_click != "env" && first_click != "agent") {
    throw py::value_error("first_click must be 'env' or 'agent', got '" + first_click + "'");
  }
  config.height = height;
  config.width = width;
  config.num_mines = num_mines;
  config.first_click = first_click == "env" ? mines::FirstClick::kEnv : mines::FirstClick::kAgent;
  config.no_guess = no_guess;
  config.max_tries = max_tries;
}

inline void ReadMineRewards(const py::object& rewards, MinesweeperRewards& r) {
  ReadRewards(rewards, {{"win", &r.win},
                        {"open", &r.open},
                        {"cascade", &r.cascade},
                        {"mine", &r.mine},
                        {"invalid", &r.invalid}});
}

template <typename Env>
void BindMinesweeperBatch(py::module_& m, const char* name) {
  using Batch = BatchEnv<Env>;
  Bind<Env>(m, name)
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_mines, const std::string& first_click, bool no_guess,
                       int max_tries, const py::object& rewards) {
             MinesweeperConfig config;
             ReadBoardConfig(config, height, width, num_mines, first_click, no_guess, max_tries);
             ReadMineRewards(rewards, config.rewards);
             return std::make_unique<Batch>(
                 num_envs, config, MakeBatchConfig(num_threads, split, turn_reward, stop_at_done, autoreset));
           }),
           py::arg("num_envs"), py::kw_only(), py::arg("num_threads") = 1, py::arg("split") = py::none(),
           py::arg("turn_reward") = "sum", py::arg("stop_at_done") = true, py::arg("autoreset") = "none",
           py::arg("height") = 6, py::arg("width") = 6, py::arg("num_mines") = 3,
           py::arg("first_click") = "env", py::arg("no_guess") = false, py::arg("max_tries") = 100'000,
           py::arg("rewards") = "lamer")
      .def_property_readonly("height", [](const Batch& self) { return self.env().config().height; })
      .def_property_readonly("width", [](const Batch& self) { return self.env().config().width; })
      .def_property_readonly("num_mines", [](const Batch& self) { return self.env().config().num_mines; })
      .def("lay", &LayBoards<Env>, py::arg("mines"), py::arg("first"), py::arg("env_idx") = py::none())
      .def(
          "mine_probabilities",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            const auto num_cells = static_cast<std::size_t>(self.env().num_actions());
            Array<double> probabilities({idx.size(), static_cast<py::ssize_t>(num_cells)});
            Array<bool> exact(idx.size());
            const auto span = Out(probabilities);
            auto* is_exact = exact.mutable_data();
            {
              const py::gil_scoped_release release;
              self.Map(idx.idx, Batch::kMinResetChunk, [&](std::size_t i, typename Env::Board& board) {
                is_exact[i] = self.env().FindMineProbabilities(board, span.subspan(i * num_cells, num_cells));
              });
            }
            return py::make_tuple(probabilities, exact);
          },
          py::arg("env_idx") = py::none());
}

// seen and hit of each board of a call, [B, cells] bool.
struct KnownArgs {
  Array<bool> seen, hit;

  KnownArgs(const py::object& seen_, const py::object& hit_, py::ssize_t num_boards, int num_cells)
      : seen(Need<bool>(seen_, "seen", 2)), hit(Need<bool>(hit_, "hit", 2)) {
    for (const auto* array : {&seen, &hit}) {
      if (array->shape(0) != num_boards || array->shape(1) != num_cells) {
        throw py::value_error("seen has shape " + ShapeText(seen) + " and hit " + ShapeText(hit) +
                              ", expected (" + std::to_string(num_boards) + ", " + std::to_string(num_cells) +
                              ")");
      }
    }
  }

  mines::Known Of(const HiddenMinesweeper& env, std::size_t i, const HiddenMinesweeper::Board& board) const {
    mines::Cells seen_set, hit_set;
    for (int cell = 0; cell < env.num_actions(); ++cell) {
      const auto bit = env.BitOf(cell);
      seen_set |= mines::Cells::One(bit, seen.at(i, cell));
      hit_set |= mines::Cells::One(bit, hit.at(i, cell));
    }
    return env.Knows(board, seen_set, hit_set);
  }
};

inline py::tuple HiddenBeliefs(BatchEnv<HiddenMinesweeper>& self, const py::object& seen,
                               const py::object& hit, const py::object& env_idx) {
  const Idx idx(env_idx, self.num_envs());
  const HiddenMinesweeper& env = self.env();
  const KnownArgs known(seen, hit, idx.size(), env.num_actions());
  Array<double> mined({idx.size(), static_cast<py::ssize_t>(env.num_actions())});
  Array<double> lines({idx.size(), static_cast<py::ssize_t>(mines::kNumLines)});
  self.Map(idx.idx, idx.idx.size() + 1, [&](std::size_t i, const HiddenMinesweeper::Board& board) {
    std::array<double, mines::Cells::kNumBits> chance;
    env.explorer().Chances(known.Of(env, i, board), chance,
                           {lines.mutable_data(static_cast<py::ssize_t>(i), 0), mines::kNumLines});
    for (int cell = 0; cell < env.num_actions(); ++cell) {
      mined.mutable_at(i, cell) = chance[static_cast<std::size_t>(env.BitOf(cell))];
    }
  });
  return py::make_tuple(mined, lines);
}

inline Array<double> ExploreHidden(BatchEnv<HiddenMinesweeper>& self, const py::object& seen,
                                   const py::object& hit, const py::object& episodes,
                                   const py::object& env_idx) {
  const Idx idx(env_idx, self.num_envs());
  const HiddenMinesweeper& env = self.env();
  const KnownArgs known(seen, hit, idx.size(), env.num_actions());
  const auto left = Need<std::int32_t>(episodes, "episodes", 1);
  if (left.size() != idx.size()) {
    throw py::value_error("episodes has " + std::to_string(left.size()) + " values, expected " +
                          std::to_string(idx.size()));
  }
  for (py::ssize_t i = 0; i < left.size(); ++i) CheckRange("episodes", left.at(i), 1, 255);
  Array<double> values({idx.size(), static_cast<py::ssize_t>(env.num_actions())});
  self.Map(idx.idx, idx.idx.size() + 1, [&](std::size_t i, const HiddenMinesweeper::Board& board) {
    std::array<double, mines::Cells::kNumBits> value{};
    env.explorer().Values(known.Of(env, i, board), left.at(static_cast<py::ssize_t>(i)), value);
    for (int cell = 0; cell < env.num_actions(); ++cell) {
      values.mutable_at(i, cell) = value[static_cast<std::size_t>(env.BitOf(cell))];
    }
  });
  return values;
}

inline void BindHiddenMinesweeper(py::module_& m) {
  using Batch = BatchEnv<HiddenMinesweeper>;
  Bind<HiddenMinesweeper>(m, "MinesweeperHiddenBatch")
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_mines, const std::string& first_click, bool no_guess,
                       int max_tries, bool held_out_rules, const py::object& rewards) {
             HiddenMinesweeperConfig config;
             ReadBoardConfig(config, height, width, num_mines, first_click, no_guess, max_tries);
             config.held_out_rules = held_out_rules;
             ReadMineRewards(rewards, config.rewards);
             return std::make_unique<Batch>(
                 num_envs, config, MakeBatchConfig(num_threads, split, turn_reward, stop_at_done, autoreset));
           }),
           py::arg("num_envs"), py::kw_only(), py::arg("num_threads") = 1, py::arg("split") = py::none(),
           py::arg("turn_reward") = "sum", py::arg("stop_at_done") = true, py::arg("autoreset") = "none",
           py::arg("height") = 6, py::arg("width") = 6, py::arg("num_mines") = 3,
           py::arg("first_click") = "env", py::arg("no_guess") = false, py::arg("max_tries") = 100'000,
           py::arg("held_out_rules") = false, py::arg("rewards") = "lamer")
      .def_property_readonly("height", [](const Batch& self) { return self.env().config().height; })
      .def_property_readonly("width", [](const Batch& self) { return self.env().config().width; })
      .def_property_readonly("num_mines", [](const Batch& self) { return self.env().config().num_mines; })
      .def("rules", &Rules<Batch>, py::arg("env_idx") = py::none())
      .def("beliefs", &HiddenBeliefs, py::arg("seen"), py::arg("hit"), py::arg("env_idx") = py::none())
      .def("explore", &ExploreHidden, py::arg("seen"), py::arg("hit"), py::arg("episodes"),
           py::arg("env_idx") = py::none());
}

inline void BindMinesweeper(py::module_& m) {
  BindHiddenMinesweeper(m);
  BindMinesweeperBatch<Minesweeper>(m, "MinesweeperBatch");            // up to 8x8
  BindMinesweeperBatch<MinesweeperLarge>(m, "MinesweeperLargeBatch");  // up to 16x16
}

}  // namespace lamer::bindings
