// What follows from the visible numbers alone: cells that are provably safe, and boards that need no guess.
//
// Two steps. DeduceSimple looks at one number at a time, all numbers at once in bit-sliced arithmetic.
// ProvablySafe is complete: for each cell that is not known to be a mine somewhere, it searches a layout
// that agrees with every number and with the count of mines and has a mine there; a cell without one is safe.
#pragma once

#include <array>
#include <cstdint>

#include "core/simd.h"
#include "envs/minesweeper/board.h"

namespace lamer::mines {

// What a player sees: `numbers` counts where `opened`; `mines` of all cells not yet opened.
template <int kWords>
struct View {
  Bits<kWords> opened;
  Counts<kWords> numbers;
  int num_mines;
};

// Cells whose count agrees.
template <int kWords>
constexpr Bits<kWords> EqualCounts(const Counts<kWords>& a, const Counts<kWords>& b) {
  return ~((a.plane[0] ^ b.plane[0]) | (a.plane[1] ^ b.plane[1]) | (a.plane[2] ^ b.plane[2]) |
           (a.plane[3] ^ b.plane[3]));
}

// Extends `known_mines` and returns the safe cells that follow from single numbers, empty if there are none.
template <int kWords>
constexpr Bits<kWords> DeduceSimple(const Grid<kWords>& grid, const View<kWords>& view,
                                    Bits<kWords>& known_mines) {
  const Bits<kWords> hidden = grid.cells & ~view.opened;
  known_mines |= Dilate(EqualCounts(view.numbers, CountNeighbours(hidden)) & view.opened) & hidden;
  const Bits<kWords> satisfied = EqualCounts(view.numbers, CountNeighbours(known_mines)) & view.opened;
  return Dilate(satisfied) & hidden & ~known_mines;
}

template <int kWords>
struct Constraint {
  Bits<kWords> cells;  // hidden
  int num_mines;       // among them
};

// One constraint per number with hidden neighbours, then one for the whole board.
template <int kWords>
struct Constraints {
  std::array<Constraint<kWords>, Bits<kWords>::kNumBits + 1> item;
  int size = 0;

  LAMER_ALWAYS_INLINE Constraints(const Grid<kWords>& grid, const View<kWords>& view) {
    const Bits<kWords> hidden = grid.cells & ~view.opened;
    ForEach(Dilate(hidden) & view.opened,
            [&](int bit) { item[size++] = {Dilate(Bits<kWords>::One(bit)) & hidden, view.numbers.At(bit)}; });
    item[size++] = {hidden, view.num_mines};
  }
};

// A partial layout: cells still open to choice, and mines set.
template <int kWords>
struct Partial {
  Bits<kWords> unknown, mines;
};

// Sets what single constraints force. False if one of them cannot be met.
template <int kWords>
LAMER_ALWAYS_INLINE bool Propagate(const Constraints<kWords>& constraints, Partial<kWords>& p) {
  for (bool changed = true; changed;) {
    changed = false;
    for (int i = 0; i < constraints.size; ++i) {
      const auto& c = constraints.item[i];
      const Bits<kWords> free = c.cells & p.unknown;
      const int missing = c.num_mines - (c.cells & p.mines).Count(), num_free = free.Count();
      if (missing < 0 || missing > num_free) return false;
      if (num_free == 0 || (missing != 0 && missing != num_free)) continue;
      if (missing != 0) p.mines |= free;
      p.unknown &= ~free;
      changed = true;
    }
  }
  return true;
}

constexpr int kMaxSearchNodes = 1 << 14;  // of all searches of one position

enum class Found { kNone, kLayout, kGaveUp };

// A layout that extends `p`: what stays unknown is constrained by the count of the whole board only.
// Prefers mines on `wanted`; lowers `budget` by the nodes it looks at.
template <int kWords>
LAMER_ALWAYS_INLINE Found FindLayout(const Constraints<kWords>& constraints, Partial<kWords>& p,
                                     const Bits<kWords>& wanted, int& budget) {
  std::array<Partial<kWords>, Bits<kWords>::kNumBits + 1> stack;
  int depth = 0;
  stack[depth++] = p;
  while (depth > 0) {
    if (budget == 0) return Found::kGaveUp;
    --budget;
    p = stack[--depth];
    if (!Propagate(constraints, p)) continue;
    Bits<kWords> branch;
    for (int i = 0; i + 1 < constraints.size && branch.None(); ++i) {
      branch = constraints.item[i].cells & p.unknown;
    }
    if (branch.None()) return Found::kLayout;
    const Bits<kWords> preferred = branch & wanted;
    const auto cell = Bits<kWords>::One((preferred.Any() ? preferred : branch).First());
    stack[depth++] = {p.unknown & ~cell, p.mines};
    stack[depth++] = {p.unknown & ~cell, p.mines | cell};
  }
  return Found::kNone;
}

// All provably safe hidden cells, or only one if `stop_at_first`. `layout` is any layout that agrees with the
// view (the true one will do: it only saves searches). What a spent budget leaves open counts as not proven.
template <int kWords>
LAMER_ALWAYS_INLINE Bits<kWords> ProvablySafe(const Grid<kWords>& grid, const View<kWords>& view,
                                              const Bits<kWords>& layout, bool stop_at_first) {
  int budget = kMaxSearchNodes;
  const Constraints<kWords> constraints(grid, view);
  const Bits<kWords> hidden = grid.cells & ~view.opened;
  const Bits<kWords> apart = hidden & ~Dilate(view.opened);  // seen by no number: all alike
  Bits<kWords> safe, candidates = hidden & ~layout;
  if ((layout & apart).Any()) candidates &= ~apart;
  while (candidates.Any()) {
    const Bits<kWords> border = candidates & ~apart;
    const auto cell = Bits<kWords>::One((border.Any() ? border : candidates).First());
    Partial<kWords> p{hidden & ~safe & ~cell, cell};
    switch (FindLayout(constraints, p, candidates, budget)) {
      case Found::kNone: {
        const Bits<kWords> proven = (cell & apart).Any() ? apart : cell;
        safe |= proven;
        candidates &= ~proven;
        if (stop_at_first) return safe;
        break;
      }
      case Found::kGaveUp:
        return safe;
      case Found::kLayout: {
        const auto& board = constraints.item[constraints.size - 1];
        candidates &= ~p.mines;
        if (board.num_mines > (board.cells & p.mines).Count() || (p.mines & apart).Any())
          candidates &= ~apart;
      }
    }
  }
  return safe;
}

// Can the board be won from `opened` by provably safe cells alone?
template <int kWords>
LAMER_ALWAYS_INLINE bool NeedsNoGuess(const Grid<kWords>& grid, const Bits<kWords>& mines,
                                      Bits<kWords> opened) {
  const int num_mines = mines.Count();
  const auto numbers = CountNeighbours(mines);
  const Bits<kWords> all_safe = grid.cells & ~mines;
  Bits<kWords> known;
  while (opened != all_safe) {
    const View<kWords> view{opened, numbers, num_mines};
    const Bits<kWords> last_known = known;
    Bits<kWords> safe = DeduceSimple(grid, view, known);
    if (known == mines) return true;
    if (safe.None() && known == last_known) {
      safe = ProvablySafe(grid, view, mines, true);
      if (safe.None()) return false;
    }
    if (safe.Any()) opened |= Cascade(grid, mines, safe);
  }
  return true;
}

}  // namespace lamer::mines
