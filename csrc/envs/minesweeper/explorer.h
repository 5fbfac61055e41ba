// The player that cannot be beaten where the neighbourhood is hidden: exact search over what can be known.
//
// A hypothesis is a layout of mines and a rule; before the first cell all of them are as likely. An opened cell
// tells its number, a mine tells itself and ends the episode, and the next one is played on the same board: what
// was seen once is known, and opening it again is free. So what is known is the cells whose number was seen, the
// mines that were hit, and the hypotheses that agree with them. The value of this and of the episodes left is the
// chance that all other cells are opened within them. Turns are not counted: an episode must have as many as there
// are free cells for the value to be reached; with fewer it is a bound all the same.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/rng.h"
#include "core/too_large.h"
#include "envs/minesweeper/neighbours.h"

namespace lamer::mines {

constexpr double NumLayouts(int num_cells, int num_mines) {
  double layouts = 1.0;
  for (int i = 0; i < num_mines; ++i) layouts = layouts * (num_cells - i) / (i + 1);
  return layouts;
}

// Calls visit(layout) for every set of so many cells of the board.
template <typename Visit>
void ForEachLayout(const Grid<1>& grid, int num_mines, Visit&& visit) {
  std::vector<int> chosen(static_cast<std::size_t>(num_mines));
  std::iota(chosen.begin(), chosen.end(), 0);
  for (;;) {
    Cells layout;
    for (int cell : chosen) layout |= Cells::One(grid.bit_of[static_cast<std::size_t>(cell)]);
    visit(layout);
    int i = num_mines - 1;
    while (i >= 0 && chosen[static_cast<std::size_t>(i)] == grid.num_cells - num_mines + i) --i;
    if (i < 0) return;
    for (++chosen[static_cast<std::size_t>(i)]; i + 1 < num_mines; ++i) {
      chosen[static_cast<std::size_t>(i + 1)] = chosen[static_cast<std::size_t>(i)] + 1;
    }
  }
}

// What a player of one board knows.
struct Known {
  Cells seen, hit;              // cells whose number was seen; mines
  std::array<Cells, 4> number;  // of the cells seen, bit-sliced

  friend bool operator==(const Known&, const Known&) = default;
};

class HiddenExplorer {
 public:
  static constexpr double kMaxHypotheses = 120'000;
  static constexpr std::size_t kMaxKept = 1'000'000;  // states of knowledge
  static constexpr std::uint64_t kMaxWork =
      300'000'000;  // looks at a hypothesis, of one call: about two seconds

  HiddenExplorer(const Grid<1>& grid, int num_mines) : grid_(grid), num_mines_(num_mines) {}

  bool is_feasible() const { return NumLayouts(grid_.num_cells, num_mines_) * kNumRules <= kMaxHypotheses; }

  static Known Knows(const Cells& mines, int rule, const Cells& seen, const Cells& hit) {
    Known known{seen, hit, CountNeighbours(mines, Lines(rule)).plane};
    for (Cells& plane : known.number) plane &= seen;
    return known;
  }

  // chance: [bits], that of a mine; lines: [4], that of each line to count.
  void Chances(const Known& known, std::span<double> chance, std::span<double> lines) const {
    const Belief belief = Consistent(known);
    std::fill(chance.begin(), chance.end(), 0.0);
    std::fill(lines.begin(), lines.end(), 0.0);
    for (std::uint32_t h : belief) {
      ForEach(mines_[h], [&](int bit) { chance[static_cast<std::size_t>(bit)] += 1.0; });
      for (std::size_t i = 0; i < lines.size(); ++i) lines[i] += (RuleOf(h) + 1) >> i & 1;
    }
    const auto total = static_cast<double>(belief.size());
    for (double& c : chance) c /= total;
    for (double& c : lines) c /= total;
  }

  // out: [bits], the chance that all free cells are opened within so many episodes if this cell is opened next and
  // all later ones are chosen as well as can be. A cell seen before is free, a mine that was hit is left at 0.
  void Values(const Known& known, int episodes, std::span<double> out) {
    const Belief belief = Consistent(known);
    const std::lock_guard lock(mutex_);
    if (values_.size() > kMaxKept) values_.clear();
    work_ = 0;
    ForEach(grid_.cells & ~known.seen & ~known.hit,
            [&](int bit) { out[static_cast<std::size_t>(bit)] = ValueOf(bit, known, belief, episodes); });
    const double now = Value(known, belief, episodes);
    ForEach(known.seen, [&](int bit) { out[static_cast<std::size_t>(bit)] = now; });
  }

 private:
  using Belief = std::vector<std::uint32_t>;

  struct Key {
    Known known;
    int episodes;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& key) const {
      std::uint64_t hash = HashCombine(Mix64(key.known.seen.word[0]), key.known.hit.word[0]);
      for (const Cells& plane : key.known.number) hash = HashCombine(hash, plane.word[0]);
      return HashCombine(hash, static_cast<std::uint64_t>(key.episodes));
    }
  };

  static int RuleOf(std::uint32_t hypothesis) { return static_cast<int>(hypothesis % kNumRules); }

  void List() const {
    if (!is_feasible()) {
      throw TooLarge(std::to_string(static_cast<std::int64_t>(NumLayouts(grid_.num_cells, num_mines_))) +
                     " layouts under " + std::to_string(kNumRules) + " rules are more than " +
                     std::to_string(static_cast<int>(kMaxHypotheses)) + ": too many to look at each");
    }
    ForEachLayout(grid_, num_mines_, [&](const Cells& layout) {
      for (int rule = 0; rule < kNumRules; ++rule) {
        mines_.push_back(layout);
        numbers_.push_back(CountNeighbours(layout, Lines(rule)).plane);
      }
    });
  }

  Belief Consistent(const Known& known) const {
    std::call_once(listed_, [&] { List(); });
    Belief belief;
    for (std::uint32_t h = 0; h < mines_.size(); ++h) {
      if ((mines_[h] & known.seen).Any() || (known.hit & ~mines_[h]).Any()) continue;
      std::uint64_t differ = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        differ |= (numbers_[h][i].word[0] & known.seen.word[0]) ^ known.number[i].word[0];
      }
      if (differ == 0) belief.push_back(h);
    }
    return belief;
  }

  int NumberAt(std::uint32_t h, int bit) const { return Counts<1>{numbers_[h]}.At(bit); }

  double Value(const Known& known, const Belief& belief, int episodes) {
    const Cells rest = grid_.cells & ~known.seen & ~known.hit;
    if (rest.Count() == num_mines_ - known.hit.Count()) return 1.0;
    const Key key{known, episodes};
    if (const auto it = values_.find(key); it != values_.end()) return it->second;
    Cells some = {}, all = grid_.cells;  // mined under some hypothesis, under all
    for (std::uint32_t h : belief) {
      some |= mines_[h];
      all &= mines_[h];
    }
    double best = 0.0;
    if (const Cells safe = rest & ~some; safe.Any()) {
      best = ValueOf(safe.First(), known, belief, episodes);  // it must be opened, and tells something
    } else {
      for (std::uint64_t left = (rest & ~all).word[0]; left != 0 && best < 1.0; left &= left - 1) {
        best = std::max(best, ValueOf(std::countr_zero(left), known, belief, episodes));
      }
    }
    values_.emplace(key, best);
    return best;
  }

  double ValueOf(int bit, const Known& known, const Belief& belief, int episodes) {
    work_ += belief.size();
    if (work_ > kMaxWork) {
      throw std::invalid_argument("explore: more than " + std::to_string(kMaxWork) +
                                  " looks at a layout under a rule, an exact search is for small boards");
    }
    std::array<Belief, 10> seen;  // by number; 9: a mine
    for (std::uint32_t h : belief) {
      seen[mines_[h].Test(bit) ? 9u : static_cast<std::size_t>(NumberAt(h, bit))].push_back(h);
    }
    double total = 0.0;
    for (std::size_t what = 0; what < seen.size(); ++what) {
      if (seen[what].empty() || (what == 9 && episodes == 1)) continue;
      Known next = known;
      if (what == 9) {
        next.hit |= Cells::One(bit);
      } else {
        next.seen |= Cells::One(bit);
        for (std::size_t i = 0; i < 4; ++i) next.number[i] |= Cells::One(bit, (what >> i & 1) != 0);
      }
      total += static_cast<double>(seen[what].size()) *
               Value(next, seen[what], what == 9 ? episodes - 1 : episodes);
    }
    return total / static_cast<double>(belief.size());
  }

  Grid<1> grid_;
  int num_mines_;
  mutable std::once_flag listed_;
  mutable std::vector<Cells> mines_;  // of each hypothesis
  mutable std::vector<std::array<Cells, 4>> numbers_;
  std::mutex mutex_;
  std::unordered_map<Key, double, Hash> values_;
  std::uint64_t work_ = 0;
};

}  // namespace lamer::mines
