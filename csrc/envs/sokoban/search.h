// Retrograde breadth-first search: from all solved states backwards over walks and pulls, one move a layer.
// The layer of a state is the least number of moves that solves it; states that are never reached are dead.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "envs/sokoban/bits.h"

namespace lamer::sokoban {

inline constexpr int kMaxBoxes = 4;

// Rank of a set of boxes among all sets of its size on a floor: the combinatorial number system.
class BoxRank {
 public:
  void SetFloor(Bits floor) {
    num_cells_ = 0;
    for (; floor != 0; floor &= floor - 1)
      order_[LowestCell(floor)] = static_cast<std::uint8_t>(num_cells_++);
  }
  int num_cells() const { return num_cells_; }
  int order(int cell) const { return order_[cell]; }

  std::uint32_t operator()(Bits boxes) const {
    std::uint32_t rank = 0;
    for (int k = 1; boxes != 0; ++k, boxes &= boxes - 1) rank += kChoose[k][order_[LowestCell(boxes)]];
    return rank;
  }

  static constexpr std::uint32_t Choose(int n, int k) { return kChoose[k][n]; }

 private:
  static constexpr auto kChoose = [] {
    std::array<std::array<std::uint32_t, kCells + 1>, kMaxBoxes + 1> choose{};
    for (int n = 0; n <= kCells; ++n) {
      choose[0][n] = 1;
      for (int k = 1; k <= kMaxBoxes; ++k)
        choose[k][n] = n == 0 ? 0 : choose[k][n - 1] + choose[k - 1][n - 1];
    }
    return choose;
  }();

  std::array<std::uint8_t, kCells> order_{};
  int num_cells_ = 0;
};

// All states of one arrangement of boxes first reached in one layer: the player stands on one of `players`.
struct Front {
  Bits boxes;
  Bits players;
  std::uint32_t rank;
};

class RetroSearch {
 public:
  enum class End { kComplete, kStopped, kCapped };

  // Calls visit(depth, const Front&) -> bool layer by layer, depth = 0 .. max_depth, until it returns false
  // (the rest of that layer is still visited). After `max_fronts` fronts it gives up, its layer incomplete.
  template <typename Visit>
  End Run(Bits floor, Bits targets, int max_depth, std::size_t max_fronts, Visit&& visit) {
    rank_.SetFloor(floor);
    const std::size_t num_ranks = BoxRank::Choose(rank_.num_cells(), std::popcount(targets));
    if (reached_.size() < num_ranks) reached_.resize(num_ranks);  // zero between runs
    touched_.clear();
    front_.clear();
    Reach(targets, rank_(targets), floor & ~targets);
    End end = End::kComplete;
    std::size_t num_fronts = 0;
    for (int depth = 0; !pending_.empty() || !front_.empty(); ++depth) {
      TakePending();
      if (front_.empty()) break;
      bool go_on = true;
      for (const Front& front : front_) go_on &= visit(depth, front);
      num_fronts += front_.size();
      if (!go_on || depth == max_depth) {
        end = go_on ? End::kComplete : End::kStopped;
        break;
      }
      if (num_fronts > max_fronts) {
        end = End::kCapped;
        break;
      }
      for (const Front& front : front_) Expand(floor, front);
    }
    for (const std::uint32_t rank : touched_) reached_[rank] = Reached{};
    pending_.clear();
    return end;
  }

  std::size_t scratch_bytes() const { return reached_.capacity() * sizeof(Reached); }

 private:
  struct Reached {
    Bits players = 0;  // of all layers up to now
    Bits fresh = 0;    // those of the next layer
  };
  struct Pending {
    Bits boxes;
    std::uint32_t rank;
  };

  void Reach(Bits boxes, std::uint32_t rank, Bits players) {
    Reached& state = reached_[rank];
    const Bits fresh = players & ~(state.players | state.fresh);
    if (fresh == 0) return;
    if (state.players == 0 && state.fresh == 0) touched_.push_back(rank);
    if (state.fresh == 0) pending_.push_back({boxes, rank});
    state.fresh |= fresh;
  }

  void TakePending() {
    front_.clear();
    for (const Pending& p : pending_) {
      Reached& state = reached_[p.rank];
      front_.push_back({p.boxes, state.fresh, p.rank});
      state.players |= state.fresh;
      state.fresh = 0;
    }
    pending_.clear();
  }

  void Expand(Bits floor, const Front& front) {
    const Bits free = floor & ~front.boxes;
    Reach(front.boxes, front.rank, Dilate(front.players) & free);
    Pull<kUp>(free, front);
    Pull<kDown>(free, front);
    Pull<kLeft>(free, front);
    Pull<kRight>(free, front);
  }

  // The player steps back in direction kDir and draws the box behind it along: the reverse of a push.
  template <int kDir>
  void Pull(Bits free, const Front& front) {
    constexpr int kBack = kDir ^ 1;
    Bits players = front.players & Shift<kBack>(free) & Shift<kDir>(front.boxes);
    for (; players != 0; players &= players - 1) {
      const Bits player = players & (0 - players);
      const Bits boxes = front.boxes ^ player ^ Shift<kBack>(player);
      Reach(boxes, rank_(boxes), Shift<kDir>(player));
    }
  }

  BoxRank rank_;
  std::vector<Reached> reached_;  // [rank]
  std::vector<std::uint32_t> touched_;
  std::vector<Front> front_;
  std::vector<Pending> pending_;
};

// One per thread: scratch memory outlives the call.
inline RetroSearch& ThreadSearch() {
  thread_local RetroSearch search;
  return search;
}

// A state after `action` (0 .. 3), or false when the player cannot move so.
constexpr bool Apply(Bits floor, int action, Bits& boxes, Bits& player) {
  const Bits to = Shift(action, player) & floor;
  if (to == 0) return false;
  if (to & boxes) {
    const Bits behind = Shift(action, to) & floor & ~boxes;
    if (behind == 0) return false;
    boxes ^= to | behind;
  }
  player = to;
  return true;
}

// Moves to the solution for every state of a level.
class DistanceTable {
 public:
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 20;
  static constexpr int kDead = 255;
  static constexpr int kFar = 254;  // alive, and the distance is at least this

  static std::size_t Bytes(Bits floor, int num_boxes) {
    const int cells = std::popcount(floor);
    return static_cast<std::size_t>(BoxRank::Choose(cells, num_boxes)) * static_cast<std::size_t>(cells);
  }

  DistanceTable(Bits floor, Bits targets) : floor_(floor), targets_(targets) {
    rank_.SetFloor(floor);
    distances_.assign(Bytes(floor, std::popcount(targets)), kDead);
    ThreadSearch().Run(floor, targets, std::numeric_limits<int>::max(),
                       std::numeric_limits<std::size_t>::max(), [&](int depth, const Front& front) {
                         std::uint8_t* row = distances_.data() + Row(front.rank);
                         for (Bits p = front.players; p != 0; p &= p - 1) {
                           row[rank_.order(LowestCell(p))] = static_cast<std::uint8_t>(std::min(depth, kFar));
                         }
                         return true;
                       });
  }

  bool IsOf(Bits floor, Bits targets) const { return floor == floor_ && targets == targets_; }

  int operator()(Bits boxes, int player) const {
    return distances_[Row(rank_(boxes)) + static_cast<std::size_t>(rank_.order(player))];
  }

 private:
  std::size_t Row(std::uint32_t rank) const {
    return static_cast<std::size_t>(rank) * static_cast<std::size_t>(rank_.num_cells());
  }

  Bits floor_, targets_;
  BoxRank rank_;
  std::vector<std::uint8_t> distances_;  // [rank, player]
};

// The tables in use, one per level whatever the number of its boards; a table goes with its last board.
class TableCache {
 public:
  std::shared_ptr<const DistanceTable> Get(Bits floor, Bits targets) {
    const std::uint64_t key = HashCombine(Mix64(floor), targets);
    {
      const std::lock_guard lock(mutex_);
      if (const auto it = tables_.find(key); it != tables_.end()) {
        if (auto table = it->second.lock(); table && table->IsOf(floor, targets)) return table;
      }
    }
    auto table = std::make_shared<const DistanceTable>(floor, targets);
    const std::lock_guard lock(mutex_);
    if (tables_.size() >= sweep_at_) {
      std::erase_if(tables_, [](const auto& entry) { return entry.second.expired(); });
      sweep_at_ = std::max<std::size_t>(1024, 2 * tables_.size());
    }
    tables_[key] = table;
    return table;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::weak_ptr<const DistanceTable>> tables_;
  std::size_t sweep_at_ = 1024;
};

// Work bound of a search without a table; a front costs about 20 ns.
inline constexpr std::size_t kMaxSearchFronts = 4'000'000;

enum class Solvable { kYes, kNo, kUnknown };

struct SearchOut {
  Solvable solvable;
  int distance;  // moves, when kYes
  int action;    // the first move of a shortest solution, the least one; -1 when solved or not kYes
};

// Searches backwards until a successor of the state is met.
inline SearchOut BoundedSearch(Bits floor, Bits targets, Bits boxes, int player) {
  if (boxes == targets) return {Solvable::kYes, 0, -1};
  struct Watch {
    Bits boxes, player;
    int action;
  } watches[4];
  int num_watches = 0;
  for (int action = 0; action < 4; ++action) {
    Watch w{boxes, Bit(player), action};
    if (Apply(floor, action, w.boxes, w.player)) watches[num_watches++] = w;
  }
  SearchOut out{Solvable::kNo, 0, -1};
  const auto end = ThreadSearch().Run(floor, targets, std::numeric_limits<int>::max(), kMaxSearchFronts,
                                      [&](int depth, const Front& front) {
                                        bool go_on = true;
                                        for (int i = 0; i < num_watches; ++i) {
                                          const Watch& w = watches[i];
                                          if (w.boxes != front.boxes || !(w.player & front.players)) continue;
                                          go_on = false;
                                          if (out.action < 0 || w.action < out.action) {
                                            out = {Solvable::kYes, depth + 1, w.action};
                                          }
                                        }
                                        return go_on;
                                      });
  if (end == RetroSearch::End::kCapped) out.solvable = Solvable::kUnknown;
  return out;
}

}  // namespace lamer::sokoban
