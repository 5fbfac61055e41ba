// What a Minesweeper board looks like: visible symbols in bit-sliced form, and the styles of text.
// Layouts and symbols follow the official LaMer environment (9a4756c): `Row 1: ? ? 1 . 1 *`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/board_text.h"
#include "core/simd.h"
#include "core/text.h"
#include "envs/minesweeper/board.h"

namespace lamer::mines {

// Symbol numbers, bit-sliced: 0 to 8 an open cell with that number, 9 an opened mine, 15 a hidden cell.
inline constexpr char kSymbols[17] = ".12345678*     ?";

// Always inline, as CountNeighbours: sets that are handed over in memory cost more than all the arithmetic.
template <int kWords>
LAMER_ALWAYS_INLINE constexpr std::array<Bits<kWords>, 4> VisibleSymbols(const Counts<kWords>& counts,
                                                                         const Bits<kWords>& mines,
                                                                         const Bits<kWords>& opened) {
  const auto& numbers = counts.plane;
  const Bits<kWords> hidden = ~opened, hit = opened & mines, number = opened & ~mines;
  return {(numbers[0] & number) | hidden | hit, (numbers[1] & number) | hidden,
          (numbers[2] & number) | hidden, (numbers[3] & number) | hidden | hit};
}
template <int kWords>
LAMER_ALWAYS_INLINE constexpr std::array<Bits<kWords>, 4> VisibleSymbols(const Bits<kWords>& mines,
                                                                         const Bits<kWords>& opened) {
  return VisibleSymbols(CountNeighbours(mines), mines, opened);
}

// One style of one board size.
template <int kWords>
class TextLayout {
 public:
  using B = Bits<kWords>;

  TextLayout(const Grid<kWords>& grid, Style style) : text_(Layout(grid, style)) {}

  int size() const { return static_cast<int>(text_.size()); }

  // Writes size() bytes.
  void Render(const B& mines, const B& opened, char* out) const {
    Render([&]() LAMER_INLINE_LAMBDA { return VisibleSymbols(mines, opened); }, out);
  }
  // planes(): the symbol numbers.
  template <typename Planes>
  void Render(const Planes& planes, char* out) const {
    text_.Render(planes, out);
  }

 private:
  static BoardText<kWords> Layout(const Grid<kWords>& grid, Style style) {
    const bool numbered = style != Style::kCompact;
    std::string text;
    std::vector<typename BoardText<kWords>::Cell> cells;
    for (int row = 0; row < grid.height; ++row) {
      if (row > 0) text += '\n';
      if (numbered) text += "Row " + std::to_string(row + 1) + ": ";
      for (int column = 0; column < grid.width; ++column) {
        if (numbered && column > 0) text += ' ';
        cells.push_back(
            {static_cast<std::uint16_t>(text.size()), static_cast<std::uint16_t>(row * B::kStride + column)});
        text += '?';
      }
    }
    return {kSymbols, text, cells};
  }

  BoardText<kWords> text_;
};

}  // namespace lamer::mines
