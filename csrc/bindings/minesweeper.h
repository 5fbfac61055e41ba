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

template <typename Env>
void BindMinesweeperBatch(py::module_& m, const char* name) {
  using Batch = BatchEnv<Env>;
  Bind<Env>(m, name)
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_mines, const std::string& first_click, bool no_guess,
                       int max_tries, const py::object& rewards) {
             if (first_click != "env" && first_click != "agent") {
               throw py::value_error("first_click must be 'env' or 'agent', got '" + first_click + "'");
             }
             MinesweeperConfig config;
             config.height = height;
             config.width = width;
             config.num_mines = num_mines;
             config.first_click = first_click == "env" ? mines::FirstClick::kEnv : mines::FirstClick::kAgent;
             config.no_guess = no_guess;
             config.max_tries = max_tries;
             auto& r = config.rewards;
             ReadRewards(rewards, {{"win", &r.win},
                                   {"open", &r.open},
                                   {"cascade", &r.cascade},
                                   {"mine", &r.mine},
                                   {"invalid", &r.invalid}});
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

inline void BindMinesweeper(py::module_& m) {
  BindMinesweeperBatch<Minesweeper>(m, "MinesweeperBatch");            // up to 8x8
  BindMinesweeperBatch<MinesweeperLarge>(m, "MinesweeperLargeBatch");  // up to 16x16
}

}  // namespace lamer::bindings
