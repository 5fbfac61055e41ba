// Minesweeper cell by cell, for tests: sets of cell numbers, no bit tricks, nothing shared with csrc/envs.
#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "envs/minesweeper/rules.h"

namespace lamer::slow {

template <int kWords>
std::set<int> Cells(const mines::Grid<kWords>& grid, const mines::Bits<kWords>& set) {
  std::set<int> cells;
  for (int row = 0; row < grid.height; ++row) {
    for (int column = 0; column < grid.width; ++column) {
      if (set.Test(row * mines::Bits<kWords>::kStride + column)) cells.insert(row * grid.width + column);
    }
  }
  return cells;
}

inline std::vector<int> Neighbours(int height, int width, int cell) {
  std::vector<int> result;
  for (int row = cell / width - 1; row <= cell / width + 1; ++row) {
    for (int column = cell % width - 1; column <= cell % width + 1; ++column) {
      const int other = row * width + column;
      if (row >= 0 && row < height && column >= 0 && column < width && other != cell) result.push_back(other);
    }
  }
  return result;
}

struct Board {
  int height, width;
  std::set<int> mines, open, start;
  bool done = false, won = false, lost = false;

  int Number(int cell) const {
    int n = 0;
    for (int other : Neighbours(height, width, cell)) n += static_cast<int>(mines.count(other));
    return n;
  }

  void Open(int cell) {
    std::vector<int> stack{cell};
    while (!stack.empty()) {
      const int at = stack.back();
      stack.pop_back();
      if (!open.insert(at).second || Number(at) != 0) continue;
      for (int other : Neighbours(height, width, at)) stack.push_back(other);
    }
  }

  float Step(int cell) {
    if (cell < 0 || open.count(cell) != 0) return -1.0f;
    const std::size_t before = open.size();
    if (mines.count(cell) != 0) {
      open.insert(cell);
      done = lost = true;
      return -0.1f;
    }
    Open(cell);
    done = won = open.size() + mines.size() == static_cast<std::size_t>(height * width);
    return won ? 10.0f : open.size() - before > 1 ? 2.0f : 0.5f;
  }

  std::string Text(bool numbered) const {
    std::string text;
    for (int row = 0; row < height; ++row) {
      if (row > 0) text += "\n";
      if (numbered) text += "Row " + std::to_string(row + 1) + ":";
      for (int column = 0; column < width; ++column) {
        const int cell = row * width + column;
        if (numbered) text += " ";
        if (open.count(cell) == 0) {
          text += "?";
        } else if (mines.count(cell) != 0) {
          text += "*";
        } else {
          text += Number(cell) == 0 ? "." : std::to_string(Number(cell));
        }
      }
    }
    return text;
  }
};

template <typename Env>
Board FromBoard(const Env& env, const typename Env::Board& board) {
  Board result{env.grid().height,
               env.grid().width,
               Cells(env.grid(), board.mines),
               Cells(env.grid(), board.opened),
               {}};
  result.start = result.open;
  return result;
}

// Symmetry i: i & 1 mirrors columns, i & 2 mirrors rows, i & 4 transposes (square boards only).
inline std::set<int> Image(int height, int width, int i, const std::set<int>& cells) {
  std::set<int> image;
  for (int cell : cells) {
    int row = cell / width, column = cell % width;
    if (i & 1) column = width - 1 - column;
    if (i & 2) row = height - 1 - row;
    if (i & 4) std::swap(row, column);
    image.insert(row * width + column);
  }
  return image;
}

// Calls visit(set) for every set of `count` cells.
template <typename Visit>
void ForEachLayout(int num_cells, int count, Visit&& visit) {
  std::vector<bool> chosen(static_cast<std::size_t>(num_cells));
  std::fill(chosen.begin(), chosen.begin() + count, true);
  do {
    std::set<int> cells;
    for (int cell = 0; cell < num_cells; ++cell) {
      if (chosen[cell]) cells.insert(cell);
    }
    visit(cells);
  } while (std::prev_permutation(chosen.begin(), chosen.end()));
}

// Distinct (mines, cells opened at reset) over the symmetries, without those that the first cell wins.
inline std::size_t AllTasks(int height, int width, int num_mines) {
  std::set<std::pair<std::set<int>, std::set<int>>> tasks;
  ForEachLayout(height * width, num_mines, [&](const std::set<int>& mines) {
    for (int first = 0; first < height * width; ++first) {
      if (mines.count(first) != 0) continue;
      Board board{height, width, mines, {}, {}};
      board.Open(first);
      if (board.open.size() + mines.size() == static_cast<std::size_t>(height * width)) continue;
      std::pair<std::set<int>, std::set<int>> best(mines, board.open);
      for (int i = 1; i < (height == width ? 8 : 4); ++i) {
        best = std::min(best, {Image(height, width, i, mines), Image(height, width, i, board.open)});
      }
      tasks.insert(best);
    }
  });
  return tasks.size();
}

}  // namespace lamer::slow
