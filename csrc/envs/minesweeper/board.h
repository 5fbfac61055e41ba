// Size of a Minesweeper board and the rule of opening cells. Plain functions of (mines, cells).
#pragma once

#include <array>
#include <cstdint>

#include "envs/minesweeper/bits.h"

namespace lamer::mines {

// Cell numbers are row * width + column, as in actions; bits are row * stride + column.
template <int kWords>
struct Grid {
  using B = Bits<kWords>;

  int height = 0, width = 0, num_cells = 0;
  B cells;                                          // every cell of the board
  std::array<std::uint8_t, B::kNumBits> bit_of{};   // cell -> bit
  std::array<std::uint8_t, B::kNumBits> cell_of{};  // bit -> cell; 0 outside the board

  constexpr Grid(int h, int w) : height(h), width(w), num_cells(h * w) {
    for (int row = 0; row < h; ++row) {
      for (int column = 0; column < w; ++column) {
        const int cell = row * w + column, bit = row * B::kStride + column;
        cells |= B::One(bit);
        bit_of[cell] = static_cast<std::uint8_t>(bit);
        cell_of[bit] = static_cast<std::uint8_t>(cell);
      }
    }
  }
};

// The cells that open when `start` (safe cells) is opened: a cell without a neighbouring mine opens its
// neighbours too, and so on.
template <int kWords>
constexpr Bits<kWords> Cascade(const Grid<kWords>& grid, const Bits<kWords>& mines,
                               const Bits<kWords>& start) {
  const Bits<kWords> blank = grid.cells & ~Dilate(mines);
  Bits<kWords> reached = start & blank;
  if (reached.None()) return start;
  for (Bits<kWords> last; last != reached;) {
    last = reached;
    reached = Dilate(reached) & blank;
    reached = Dilate(reached) & blank;
  }
  return start | (Dilate(reached) & grid.cells);
}

}  // namespace lamer::mines
