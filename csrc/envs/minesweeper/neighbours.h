// Which cells are neighbours. A rule belongs to a task and stays over all episodes on it; nothing that is
// seen before the first cell tells it for sure.
//
// Four lines go through a cell: its row, its column, the diagonal and the antidiagonal. The two cells beside it on a
// line are neighbours or not, so that there are 15 rules. With all four lines the numbers are those of the ordinary
// game; a cell opens alone, since others that open with it would show the rule.
#pragma once

#include <array>
#include <cstdint>

#include "core/rng.h"
#include "core/split.h"
#include "envs/minesweeper/board.h"

namespace lamer::mines {

using Cells = Bits<1>;

inline constexpr int kNumRules = 15, kNumLines = 4;

// Lines that count under a rule, bits of the rule plus 1: 1 row, 2 column, 4 diagonal (down right), 8 antidiagonal
// (down left).
struct Lines {
  std::array<std::uint64_t, kNumLines> on{};  // all ones, or none

  constexpr explicit Lines(int rule) {
    for (int i = 0; i < kNumLines; ++i) {
      on[static_cast<std::size_t>(i)] = std::uint64_t{0} - (static_cast<std::uint64_t>(rule + 1) >> i & 1);
    }
  }
};

// The two neighbours of every cell of a set, by line.
struct Beside {
  std::array<std::uint64_t, kNumLines> ahead, behind;
};

LAMER_ALWAYS_INLINE constexpr Beside BesideOf(const Cells& set, const Lines& lines) {
  const Cells east = set.East(), west = set.West();
  const auto& on = lines.on;
  return {{east.word[0] & on[0], set.South().word[0] & on[1], east.South().word[0] & on[2],
           west.South().word[0] & on[3]},
          {west.word[0] & on[0], set.North().word[0] & on[1], west.North().word[0] & on[2],
           east.North().word[0] & on[3]}};
}

// Number of set neighbours of every cell, bit-sliced as in CountNeighbours.
LAMER_ALWAYS_INLINE constexpr Counts<1> CountNeighbours(const Cells& set, const Lines& lines) {
  const Beside n = BesideOf(set, lines);
  std::array<std::uint64_t, kNumLines> one{}, two{};  // of each line
  for (std::size_t i = 0; i < kNumLines; ++i) {
    one[i] = n.ahead[i] ^ n.behind[i];
    two[i] = n.ahead[i] & n.behind[i];
  }
  const auto sum = [](std::uint64_t a, std::uint64_t b, std::uint64_t c) { return a ^ b ^ c; };
  const auto carry = [](std::uint64_t a, std::uint64_t b, std::uint64_t c) {
    return (a & b) | ((a ^ b) & c);
  };
  // Four ones give a one and two carries; these, with the four twos, are six of which three sums make the rest.
  const std::uint64_t ones3 = sum(one[0], one[1], one[2]), carry_a = carry(one[0], one[1], one[2]);
  const std::uint64_t ones = ones3 ^ one[3], carry_b = ones3 & one[3];
  const std::uint64_t twos_a = sum(two[0], two[1], two[2]), fours_a = carry(two[0], two[1], two[2]);
  const std::uint64_t twos_b = sum(two[3], carry_a, carry_b), fours_b = carry(two[3], carry_a, carry_b);
  const std::uint64_t twos = twos_a ^ twos_b, fours_c = twos_a & twos_b;
  return {{Cells{{ones}}, Cells{{twos}}, Cells{{sum(fours_a, fours_b, fours_c)}},
           Cells{{carry(fours_a, fours_b, fours_c)}}}};
}

// A symmetry of the board, by its number in Images(), takes lines to lines.
constexpr int ImageOfRule(int rule, int image) {
  int lines = rule + 1;
  if ((image & 4) != 0) lines = (lines & 12) | (lines & 1) << 1 | (lines & 2) >> 1;
  if (((image ^ image >> 1) & 1) != 0) lines = (lines & 3) | (lines & 4) << 1 | (lines & 8) >> 1;
  return lines - 1;
}

// Rules held out, with all their images: those of one straight and one slanting line are of test (4), of both
// straight lines and one slanting, of valid (2), the others of train (9).
constexpr bool RuleInSplit(int rule, Split split) {
  const int straight = (rule + 1) & 3, slanting = (rule + 1) >> 2;
  const bool one_slanting = slanting == 1 || slanting == 2;
  Split own = Split::kTrain;
  if (one_slanting && straight == 3) own = Split::kValid;
  if (one_slanting && (straight == 1 || straight == 2)) own = Split::kTest;
  return split == Split::kNone || own == split;
}

inline int DrawRule(Split held_out, Rng& rng) {
  for (;;) {
    const int rule = static_cast<int>(rng.Below(kNumRules));
    if (RuleInSplit(rule, held_out)) return rule;
  }
}

}  // namespace lamer::mines
