// Canonical form of a pair of cell sets over the symmetries of the board: 8 for a square, 4 otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "envs/minesweeper/board.h"

namespace lamer::mines {

constexpr std::uint64_t ReverseRowBits(std::uint64_t x, int stride) {
  x = (x >> 1 & 0x5555555555555555u) | (x & 0x5555555555555555u) << 1;
  x = (x >> 2 & 0x3333333333333333u) | (x & 0x3333333333333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0f0f0f0f0fu) | (x & 0x0f0f0f0f0f0f0f0fu) << 4;
  if (stride == 16) x = (x >> 8 & 0x00ff00ff00ff00ffu) | (x & 0x00ff00ff00ff00ffu) << 8;
  return x;
}

constexpr std::uint64_t ReverseRows(std::uint64_t x, int stride) {
  x = (x >> 16 & 0x0000ffff0000ffffu) | (x & 0x0000ffff0000ffffu) << 16;
  x = x >> 32 | x << 32;
  if (stride == 8) x = (x >> 8 & 0x00ff00ff00ff00ffu) | (x & 0x00ff00ff00ff00ffu) << 8;
  return x;
}

// Left to right; the board stays in the top left corner.
template <int kWords>
constexpr Bits<kWords> MirrorColumns(const Bits<kWords>& set, int width) {
  constexpr int kStride = Bits<kWords>::kStride;
  Bits<kWords> r;
  for (int i = 0; i < kWords; ++i) r.word[i] = ReverseRowBits(set.word[i], kStride) >> (kStride - width);
  return r;
}

// Top to bottom.
template <int kWords>
constexpr Bits<kWords> MirrorRows(const Bits<kWords>& set, int height) {
  constexpr int kStride = Bits<kWords>::kStride;
  const int shift = (kStride - height) * kStride;  // bits
  if constexpr (kWords == 1) return {{ReverseRows(set.word[0], kStride) >> shift}};
  std::array<std::uint64_t, 2 * kWords> reversed{};
  for (int i = 0; i < kWords; ++i) reversed[i] = ReverseRows(set.word[kWords - 1 - i], kStride);
  Bits<kWords> r;
  for (int i = 0; i < kWords; ++i) {
    r.word[i] = reversed[i + shift / 64] >> shift % 64;
    if (shift % 64 != 0) r.word[i] |= reversed[i + shift / 64 + 1] << (64 - shift % 64);
  }
  return r;
}

constexpr Bits<1> Transpose(const Bits<1>& set) {
  std::uint64_t x = set.word[0], t;
  t = (x ^ x >> 7) & 0x00aa00aa00aa00aau;
  x ^= t ^ t << 7;
  t = (x ^ x >> 14) & 0x0000cccc0000ccccu;
  x ^= t ^ t << 14;
  t = (x ^ x >> 28) & 0x00000000f0f0f0f0u;
  x ^= t ^ t << 28;
  return {{x}};
}

constexpr Bits<4> Transpose(const Bits<4>& set) {
  std::array<std::uint16_t, 16> row{};
  for (int r = 0; r < 16; ++r) row[r] = static_cast<std::uint16_t>(set.word[r / 4] >> r % 4 * 16);
  std::uint16_t mask = 0x00ff;
  for (int j = 8; j != 0; j >>= 1, mask = static_cast<std::uint16_t>(mask ^ mask << j)) {
    for (int r = 0; r < 16; r = (r + j + 1) & ~j) {
      const auto t = static_cast<std::uint16_t>((row[r] >> j ^ row[r + j]) & mask);
      row[r + j] = static_cast<std::uint16_t>(row[r + j] ^ t);
      row[r] = static_cast<std::uint16_t>(row[r] ^ t << j);
    }
  }
  Bits<4> r;
  for (int i = 0; i < 16; ++i) r.word[i / 4] |= std::uint64_t{row[i]} << i % 4 * 16;
  return r;
}

// The set under all symmetries; non-square boards have the first 4 only.
template <int kWords>
constexpr std::array<Bits<kWords>, 8> Images(const Grid<kWords>& grid, const Bits<kWords>& set) {
  std::array<Bits<kWords>, 8> image{};
  const bool square = grid.height == grid.width;
  image[0] = set;
  if (square) image[4] = Transpose(set);
  for (int i = 0; i < (square ? 8 : 4); i += 4) {
    image[i + 1] = MirrorColumns(image[i], grid.width);
    image[i + 2] = MirrorRows(image[i], grid.height);
    image[i + 3] = MirrorRows(image[i + 1], grid.height);
  }
  return image;
}

template <int kWords>
struct Canonical {
  Bits<kWords> mines, other;
};

// The least image of the pair.
template <int kWords>
constexpr Canonical<kWords> Canonicalize(const Grid<kWords>& grid, const Bits<kWords>& mines,
                                         const Bits<kWords>& other) {
  const auto mines_image = Images(grid, mines), other_image = Images(grid, other);
  const int num_images = grid.height == grid.width ? 8 : 4;
  Canonical<kWords> best{mines, other};
  for (int i = 1; i < num_images; ++i) {
    // Bitwise, so that it compiles to conditional moves: which image is least cannot be predicted.
    const int below = mines_image[i] < best.mines, same = mines_image[i] == best.mines;
    const bool less = (below | (same & int{other_image[i] < best.other})) != 0;
    best.mines = less ? mines_image[i] : best.mines;
    best.other = less ? other_image[i] : best.other;
  }
  return best;
}

}  // namespace lamer::mines
