// How many tasks a Minesweeper configuration has, by enumeration of all layouts where that is feasible.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/split.h"
#include "envs/minesweeper/generator.h"

namespace lamer::mines {

constexpr double kMaxEnumeratedStarts = 1 << 25;  // layouts x cells; a tenth of it under no_guess

// Calls visit(level) for every level that the generator can give, images under symmetries included.
template <int kWords, typename Visit>
void ForEachLevel(const Generator<kWords>& generator, Visit&& visit) {
  const Grid<kWords>& grid = generator.grid();
  const int num_mines = generator.config().num_mines;
  std::vector<int> chosen(static_cast<std::size_t>(num_mines));
  for (int i = 0; i < num_mines; ++i) chosen[i] = i;
  for (;;) {
    Level<kWords> level;
    for (int cell : chosen) level.mines |= Bits<kWords>::One(grid.bit_of[cell]);
    for (auto left = grid.cells & ~level.mines; left.Any();) {
      const auto first = Bits<kWords>::One(left.First());
      const bool by_env = generator.config().first_click == FirstClick::kEnv;
      level.start = by_env ? Cascade(grid, level.mines, first) : first;
      // Cells of a cascade that are not blank open alone: only the ones that open the same are passed.
      const bool cascade = (level.start ^ first).Any();
      left &= ~(cascade ? level.start & ~Dilate(level.mines) : first);
      if (generator.Accept(level)) visit(level);
    }
    int i = num_mines - 1;
    while (i >= 0 && chosen[i] == grid.num_cells - num_mines + i) --i;
    if (i < 0) return;
    for (++chosen[i]; i + 1 < num_mines; ++i) chosen[i + 1] = chosen[i] + 1;
  }
}

template <int kWords>
std::optional<std::uint64_t> CountTasks(const Generator<kWords>& generator, Split split) {
  const BoardConfig& c = generator.config();
  double starts = generator.grid().num_cells;
  for (int i = 0; i < c.num_mines; ++i) starts = starts * (generator.grid().num_cells - i) / (i + 1);
  if (starts > kMaxEnumeratedStarts * (c.no_guess ? 0.1 : 1.0)) return std::nullopt;
  std::vector<std::uint64_t> tasks;
  ForEachLevel(generator, [&](const Level<kWords>& level) {
    const std::uint64_t task = generator.Task(level);
    if (InSplit(task, split)) tasks.push_back(task);
  });
  std::sort(tasks.begin(), tasks.end());
  return static_cast<std::uint64_t>(std::unique(tasks.begin(), tasks.end()) - tasks.begin());
}

}  // namespace lamer::mines
