// Minesweeper boards as a function of (seed, split, configuration), and their canonical ids.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "core/rng.h"
#include "core/simd.h"
#include "core/split.h"
#include "envs/minesweeper/canonical.h"
#include "envs/minesweeper/lanes.h"
#include "envs/minesweeper/solver.h"

namespace lamer::mines {

enum class FirstClick : std::uint8_t { kEnv, kAgent };

struct BoardConfig {
  int height = 6, width = 6, num_mines = 3;
  FirstClick first_click = FirstClick::kEnv;
  bool no_guess = false;
  int max_tries = 100'000;  // candidates in a row, won at once or in need of a guess, before that is an error
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

  // The first candidate of the seed that is in the split and acceptable.
  Level<kWords> Generate(std::uint64_t seed, Split split) const {
    for (Progress progress;;) {
      const Level<kWords> level = DrawCandidate(seed, progress.candidate);
      if (Take(level, split == Split::kNone ? 0 : Task(level), seed, split, progress)) return level;
    }
  }

  // The same for many seeds: place(i, level of seeds[i]), in any order.
  template <typename Place>
  void Generate(std::span<const std::uint64_t> seeds, Split split, Place&& place) const {
    if constexpr (kWords == 1) {
      if (HaveLanes() && seeds.size() >= kNumLanes / 2) return GenerateInLanes(seeds, split, place);
    }
    for (std::size_t i = 0; i < seeds.size(); ++i) place(i, Generate(seeds[i], split));
  }

  // The same for boards that are images of each other under a symmetry of the board.
  std::uint64_t Task(const Level<kWords>& level) const {
    const auto canonical = Canonicalize(grid_, level.mines, level.start);
    std::uint64_t hash = TaskSalt();
    for (int i = 0; i < kWords; ++i) {
      hash = HashCombine(hash, Mix64(canonical.mines.word[i] + 1) ^ canonical.other.word[i]);
    }
    return hash;
  }

  bool Accept(const Level<kWords>& level) const {
    return !WonAtOnce(level) && (!config_.no_guess || NeedsNoGuess(grid_, level));
  }

 private:
  static constexpr std::uint64_t kPurpose = 0x6d696e65;  // "mine"

  // Where a seed stands in its sequence of candidates.
  struct Progress {
    std::uint64_t candidate = 0;    // draw << 32 | attempt
    std::uint64_t inside_draw = 0;  // the last one inside of the split
    int num_refused = 0;            // in a row
  };

  std::uint64_t TaskSalt() const {
    return Mix64(static_cast<std::uint64_t>(config_.height * 64 + config_.width));
  }

  Level<kWords> DrawCandidate(std::uint64_t seed, std::uint64_t candidate) const {
    Rng rng(seed, kPurpose, candidate);
    Level<kWords> level;
    const B first = DrawCells(grid_, 1, B{}, 0, rng);
    level.mines = DrawCells(grid_, config_.num_mines, first, 1, rng);
    level.start = config_.first_click == FirstClick::kEnv ? Cascade(grid_, level.mines, first) : first;
    return level;
  }

  bool WonAtOnce(const Level<kWords>& level) const {
    return config_.first_click == FirstClick::kEnv && level.start == (grid_.cells & ~level.mines);
  }

  // Whether the candidate is the board of its seed; if not, on to the next attempt, or outside of the split
  // to the next draw. The split is looked at before no_guess, which costs most.
  bool Take(const Level<kWords>& level, std::uint64_t task, std::uint64_t seed, Split split,
            Progress& progress) const {
    if (!WonAtOnce(level)) {
      const std::uint64_t draw = progress.candidate >> 32;
      if (!InSplit(task, split)) {
        progress.candidate = (draw + 1) << 32;
        progress.num_refused = 0;
        const bool look = (draw + 1) % kDrawsPerLook == 0;
        if (look && draw + 1 - progress.inside_draw >= kMaxDraws) FailSplit(split, seed);
        return false;
      }
      progress.inside_draw = draw;
      if (!config_.no_guess || NeedsNoGuess(grid_, level)) return true;
    }
    ++progress.candidate;
    if (++progress.num_refused == config_.max_tries) Fail(seed);
    return false;
  }

  [[noreturn]] void Fail(std::uint64_t seed) const {
    throw GenerationError("no board of " + std::to_string(config_.height) + "x" +
                          std::to_string(config_.width) + " cells and " + std::to_string(config_.num_mines) +
                          " mines" + (config_.no_guess ? " that needs no guess" : "") + " in max_tries=" +
                          std::to_string(config_.max_tries) + " tries of seed " + std::to_string(seed));
  }

  template <typename Place>
  void GenerateInLanes(std::span<const std::uint64_t> seeds, Split split, Place&& place) const {
    const LaneRules rules{grid_,      config_.num_mines,     config_.first_click == FirstClick::kEnv,
                          TaskSalt(), split != Split::kNone, TenthsOf(split)};
    Lanes lanes;
    std::array<Progress, kNumLanes> progress;
    std::array<std::size_t, kNumLanes> board;  // of each lane
    std::size_t next = 0, num_left = seeds.size();
    unsigned idle = 0;
    const auto start_next = [&](int lane) {
      progress[lane] = {};
      lanes.candidate[lane] = 0;
      board[lane] = next;
      if (next < seeds.size()) {
        lanes.key[lane] = Rng::Key(seeds[next++], kPurpose);
      } else {
        idle |= 1u << lane;
      }
    };
    for (int lane = 0; lane < kNumLanes; ++lane) start_next(lane);
    for (int first = 0; num_left > 0; first = (first + LanesAtOnce()) % kNumLanes) {
      unsigned drawn = DrawCandidates(rules, first, lanes) & ~idle;
      for (; drawn != 0; drawn &= drawn - 1) {
        const int lane = std::countr_zero(drawn);
        const std::uint64_t seed = seeds[board[lane]];
        progress[lane].candidate = lanes.candidate[lane];
        Level<kWords> level{{{lanes.mines[lane]}}, {{lanes.start[lane]}}};
        std::uint64_t task = lanes.task[lane];
        if (lanes.unsure[lane] != 0) {
          level = DrawCandidate(seed, progress[lane].candidate);
          task = Task(level);
        }
        if (Take(level, task, seed, split, progress[lane])) {
          place(board[lane], level);
          --num_left;
          start_next(lane);
        } else {
          lanes.candidate[lane] = progress[lane].candidate;
        }
      }
    }
  }

  BoardConfig config_;
  Grid<kWords> grid_;
};

}  // namespace lamer::mines
