// Minesweeper boards as a function of (seed, configuration), their canonical ids, and the number of them.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/batch_env.h"
#include "core/rng.h"
#include "core/simd.h"
#include "envs/minesweeper_canonical.h"
#include "envs/minesweeper_solver.h"

namespace lamer::mines {

enum class FirstClick : std::uint8_t { kEnv, kAgent };

struct BoardConfig {
  int height = 6, width = 6, num_mines = 3;
  FirstClick first_click = FirstClick::kEnv;
  bool no_guess = false;
  int max_tries = 100'000;  // candidates per board before generation is an error
};

// `start`: first_click = env: the cells opened at reset. agent: one free cell, where a mine under the first
// click moves to; a uniform layout then stays uniform among those that are safe at the click.
template <int kWords>
struct Level {
  Bits<kWords> mines, start;
};

inline void Validate(const BoardConfig& c, int max_side) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  if (c.height < 1 || c.width < 1 || c.height > max_side || c.width > max_side) {
    fail("board must be 1x1 to " + std::to_string(max_side) + "x" + std::to_string(max_side) +
         ", got height " + std::to_string(c.height) + " and width " + std::to_string(c.width));
  }
  const int free_cells = c.first_click == FirstClick::kEnv ? 2 : 1;
  const int max_mines = c.height * c.width - free_cells;
  if (c.num_mines < 1 || c.num_mines > max_mines) {
    fail("mines must be 1 to " + std::to_string(max_mines) + " on a board of " + std::to_string(c.height) +
         "x" + std::to_string(c.width) + " cells, got " + std::to_string(c.num_mines));
  }
  if (c.no_guess && c.first_click == FirstClick::kAgent) {
    fail("no_guess=True needs first_click='env', got first_click='agent'");
  }
  if (c.max_tries < 1) fail("max_tries must be at least 1, got " + std::to_string(c.max_tries));
}

// A uniform set of `count` cells of the board outside `excluded`.
template <int kWords>
constexpr Bits<kWords> DrawCells(const Grid<kWords>& grid, int count, const Bits<kWords>& excluded,
                                 int num_excluded, Rng& rng) {
  const int num_free = grid.num_cells - num_excluded;
  const bool complement = count * 2 > num_free;  // draw the smaller of the set and its complement
  Bits<kWords> drawn, taken = excluded;
  for (int left = complement ? num_free - count : count; left > 0;) {
    const auto cell = Bits<kWords>::One(grid.bit_of[rng.Below(static_cast<std::uint32_t>(grid.num_cells))]);
    if ((cell & taken).Any()) continue;
    drawn |= cell;
    taken |= cell;
    --left;
  }
  return complement ? grid.cells & ~excluded & ~drawn : drawn;
}

template <int kWords>
bool NeedsNoGuessPortable(const Grid<kWords>& grid, const Level<kWords>& level) {
  return NeedsNoGuess(grid, level.mines, level.start);
}
#if LAMER_X86
template <int kWords>
__attribute__((target("popcnt,bmi,bmi2"))) bool NeedsNoGuessBmi(const Grid<kWords>& grid,
                                                                const Level<kWords>& level) {
  return NeedsNoGuess(grid, level.mines, level.start);
}
#endif

template <int kWords>
bool NeedsNoGuess(const Grid<kWords>& grid, const Level<kWords>& level) {
#if LAMER_X86
  if (ActiveSimd() >= Simd::kAvx2) return NeedsNoGuessBmi(grid, level);
#endif
  return NeedsNoGuessPortable(grid, level);
}

template <int kWords>
class Generator {
 public:
  using B = Bits<kWords>;

  explicit Generator(const BoardConfig& config) : config_(config), grid_(config.height, config.width) {}

  const BoardConfig& config() const { return config_; }
  const Grid<kWords>& grid() const { return grid_; }

  Level<kWords> Generate(std::uint64_t seed, std::uint64_t draw) const {
    for (int attempt = 0; attempt < config_.max_tries; ++attempt) {
      Rng rng(seed, kPurpose, draw << 32 | static_cast<std::uint64_t>(attempt));
      Level<kWords> level;
      const B first = DrawCells(grid_, 1, B{}, 0, rng);
      level.mines = DrawCells(grid_, config_.num_mines, first, 1, rng);
      level.start = config_.first_click == FirstClick::kEnv ? Cascade(grid_, level.mines, first) : first;
      if (Accept(level)) return level;
    }
    throw GenerationError("no board of " + std::to_string(config_.height) + "x" +
                          std::to_string(config_.width) + " cells and " + std::to_string(config_.num_mines) +
                          " mines" + (config_.no_guess ? " that needs no guess" : "") + " in max_tries=" +
                          std::to_string(config_.max_tries) + " tries of seed " + std::to_string(seed));
  }

  // The same for boards that are images of each other under a symmetry of the board.
  std::uint64_t Task(const Level<kWords>& level) const {
    const auto canonical = Canonicalize(grid_, level.mines, level.start);
    std::uint64_t hash = Mix64(static_cast<std::uint64_t>(config_.height * 64 + config_.width));
    for (int i = 0; i < kWords; ++i) {
      hash = HashCombine(hash, Mix64(canonical.mines.word[i] + 1) ^ canonical.other.word[i]);
    }
    return hash;
  }

  bool Accept(const Level<kWords>& level) const {
    if (config_.first_click == FirstClick::kEnv && level.start == (grid_.cells & ~level.mines)) return false;
    return !config_.no_guess || NeedsNoGuess(grid_, level);
  }

 private:
  static constexpr std::uint64_t kPurpose = 0x6d696e65;  // "mine"

  BoardConfig config_;
  Grid<kWords> grid_;
};

}  // namespace lamer::mines
