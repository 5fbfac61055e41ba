// Bitboards for Minesweeper: one bit per cell, rows at a fixed stride of 8 (one word) or 16 (four words).
//
// A fixed stride makes every shift a compile-time constant and turns the symmetries of the square into the
// well-known bit tricks. Cells outside the board are always 0 in every set.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "core/simd.h"

namespace lamer::mines {

template <int kWords>
struct Bits {
  static_assert(kWords == 1 || kWords == 4);
  static constexpr int kStride = kWords == 1 ? 8 : 16;
  static constexpr int kNumBits = kWords * 64;
  static constexpr std::uint64_t kLeftColumn = kWords == 1 ? 0x0101010101010101u : 0x0001000100010001u;
  static constexpr std::uint64_t kRightColumn = kLeftColumn << (kStride - 1);

  std::array<std::uint64_t, kWords> word{};

  // The set of one bit, or of none.
  static constexpr Bits One(int bit, bool set = true) {
    Bits r;
    r.word[kWords == 1 ? 0 : bit >> 6] = std::uint64_t{set} << (bit & 63);
    return r;
  }

  constexpr bool Test(int bit) const { return word[kWords == 1 ? 0 : bit >> 6] >> (bit & 63) & 1; }
  constexpr bool Any() const {
    std::uint64_t any = 0;
    for (int i = 0; i < kWords; ++i) any |= word[i];
    return any != 0;
  }
  constexpr bool None() const { return !Any(); }
  constexpr int Count() const {
    int n = 0;
    for (int i = 0; i < kWords; ++i) n += std::popcount(word[i]);
    return n;
  }
  // Whether it has exactly n >= 1 bits; few of them are quicker taken away than counted.
  constexpr bool HasCount(int n) const {
    if (kWords > 1 || n > 8) return Count() == n;
    std::uint64_t left = word[0];
    for (int i = 1; i < n; ++i) left &= left - 1;
    return left != 0 && (left & (left - 1)) == 0;
  }
  // Index of the lowest set bit; the set must not be empty.
  constexpr int First() const {
    int i = 0;
    while (kWords > 1 && word[i] == 0) ++i;
    return i * 64 + std::countr_zero(word[i]);
  }
  // More than one bit, without a population count (the portable build has no instruction for it).
  constexpr bool AtLeastTwo() const {
    std::uint64_t seen = 0, twice = 0;
    for (int i = 0; i < kWords; ++i) {
      twice |= (seen != 0 && word[i] != 0) || (word[i] & (word[i] - 1)) != 0;
      seen |= word[i];
    }
    return twice != 0;
  }

  friend constexpr Bits operator&(Bits a, const Bits& b) { return a &= b; }
  friend constexpr Bits operator|(Bits a, const Bits& b) { return a |= b; }
  friend constexpr Bits operator^(Bits a, const Bits& b) { return a ^= b; }
  constexpr Bits& operator&=(const Bits& b) {
    for (int i = 0; i < kWords; ++i) word[i] &= b.word[i];
    return *this;
  }
  constexpr Bits& operator|=(const Bits& b) {
    for (int i = 0; i < kWords; ++i) word[i] |= b.word[i];
    return *this;
  }
  constexpr Bits& operator^=(const Bits& b) {
    for (int i = 0; i < kWords; ++i) word[i] ^= b.word[i];
    return *this;
  }
  constexpr Bits operator~() const {
    Bits r;
    for (int i = 0; i < kWords; ++i) r.word[i] = ~word[i];
    return r;
  }
  friend constexpr bool operator==(const Bits& a, const Bits& b) {
    if constexpr (kWords == 1) return a.word[0] == b.word[0];  // the array's own calls memcmp
    return a.word == b.word;
  }
  // Any total order.
  friend constexpr bool operator<(const Bits& a, const Bits& b) {
    if constexpr (kWords == 1) return a.word[0] < b.word[0];
    return a.word < b.word;
  }

  // One cell to the right, left, down, up. What leaves the grid is lost; what leaves the board is the
  // caller's to mask.
  constexpr Bits East() const {
    Bits r;
    for (int i = 0; i < kWords; ++i) r.word[i] = word[i] << 1 & ~kLeftColumn;
    return r;
  }
  constexpr Bits West() const {
    Bits r;
    for (int i = 0; i < kWords; ++i) r.word[i] = word[i] >> 1 & ~kRightColumn;
    return r;
  }
  constexpr Bits South() const {
    Bits r;
    r.word[0] = word[0] << kStride;
    for (int i = 1; i < kWords; ++i) r.word[i] = word[i] << kStride | word[i - 1] >> (64 - kStride);
    return r;
  }
  constexpr Bits North() const {
    Bits r;
    for (int i = 0; i + 1 < kWords; ++i) r.word[i] = word[i] >> kStride | word[i + 1] << (64 - kStride);
    r.word[kWords - 1] = word[kWords - 1] >> kStride;
    return r;
  }
};

// The set and all 8 neighbours of its cells (not masked to the board).
template <int kWords>
LAMER_ALWAYS_INLINE constexpr Bits<kWords> Dilate(const Bits<kWords>& set) {
  const Bits<kWords> row = set | set.East() | set.West();
  return row | row.North() | row.South();
}

// Number of set neighbours of every cell, bit-sliced: count = b[0] + 2 b[1] + 4 b[2] + 8 b[3].
template <int kWords>
struct Counts {
  std::array<Bits<kWords>, 4> plane;

  constexpr int At(int bit) const {
    return plane[0].Test(bit) + 2 * plane[1].Test(bit) + 4 * plane[2].Test(bit) + 8 * plane[3].Test(bit);
  }
};

template <int kWords>
LAMER_ALWAYS_INLINE constexpr Counts<kWords> CountNeighbours(const Bits<kWords>& set) {
  using B = Bits<kWords>;
  const B east = set.East(), west = set.West();
  const B side1 = east ^ west, side2 = east & west;              // the two of the same row
  const B three1 = side1 ^ set, three2 = side2 | (side1 & set);  // the three of a row above or below
  const B up1 = three1.North(), up2 = three2.North();
  const B down1 = three1.South(), down2 = three2.South();
  // ones: side1 + up1 + down1; carry goes to the twos, of which there are then four.
  const B ones_xor = up1 ^ down1;
  const B carry1 = (up1 & down1) | (ones_xor & side1);
  const B twos_xor = up2 ^ down2;
  const B twos_sum = twos_xor ^ side2;
  const B fours_a = (up2 & down2) | (twos_xor & side2);
  const B fours_b = twos_sum & carry1;
  return {{ones_xor ^ side1, twos_sum ^ carry1, fours_a ^ fours_b, fours_a & fours_b}};
}

// Calls visit(bit) for every set bit, lowest first.
template <int kWords, typename Visit>
constexpr void ForEach(const Bits<kWords>& set, Visit&& visit) {
  for (int i = 0; i < kWords; ++i) {
    for (std::uint64_t w = set.word[i]; w != 0; w &= w - 1) visit(i * 64 + std::countr_zero(w));
  }
}

}  // namespace lamer::mines
