// Rooms and levels: a random walk digs the room, a retrograde search gives the start and its exact optimum.
// The walk's shape follows gym-sokoban 0.0.6 (MIT, github.com/mpSchrader/gym-sokoban); boards are our own.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/rng.h"
#include "envs/sokoban/bits.h"
#include "envs/sokoban/search.h"

namespace lamer::sokoban {

struct RoomConfig {
  int height, width;  // with the border
  int num_boxes;
  int min_moves, max_moves;  // window of the optimal solution length
};

// A connected set of floor cells: a walk of 1.7 * (height + width) steps that turns with probability 0.35 and
// digs one of five small patterns at each step.
inline Bits DigRoom(const RoomConfig& room, Rng& rng) {
  const Bits inner = InnerCells(room.height, room.width);
  const int num_steps = 17 * (room.height + room.width) / 10;
  Bits at = Bit(static_cast<int>(8 * rng.Below(static_cast<std::uint32_t>(room.height - 2)) +
                                 rng.Below(static_cast<std::uint32_t>(room.width - 2))));
  int dir = static_cast<int>(rng.Below(4));
  Bits floor = 0;
  for (int step = 0; step < num_steps; ++step) {
    if (rng.Below(100) < 35) dir = static_cast<int>(rng.Below(4));
    if (const Bits next = Shift(dir, at) & inner; next != 0) at = next;
    switch (rng.Below(5)) {
      case 0:
        floor |= at | Shift<kLeft>(at) | Shift<kRight>(at);
        break;
      case 1:
        floor |= at | Shift<kUp>(at) | Shift<kDown>(at);
        break;
      case 2:
        floor |= at | Shift<kRight>(at) | Shift<kDown>(at);
        break;
      case 3:
        floor |= at | Shift<kRight>(at) | Shift<kDown>(at) | Shift<kDown>(Shift<kRight>(at));
        break;
      default:
        floor |= at | Shift<kLeft>(at) | Shift<kUp>(at);
        break;
    }
  }
  return floor & inner;
}

// Uniform among the subsets of `count` cells.
inline Bits ChooseCells(Bits cells, int count, Rng& rng) {
  Bits chosen = 0;
  for (int i = 0; i < count; ++i) {
    Bits rest = cells & ~chosen;
    for (std::uint32_t skip = rng.Below(static_cast<std::uint32_t>(std::popcount(rest))); skip > 0; --skip) {
      rest &= rest - 1;
    }
    chosen |= rest & (0 - rest);
  }
  return chosen;
}

// Limits of one level's generation: rooms tried, and fronts searched in all of them.
inline constexpr int kMaxRooms = 10'000;
inline constexpr std::size_t kMaxFronts = 20'000'000;

// A start drawn uniformly from the states of a random room and random targets whose optimum lies in the
// window and that have no box on a target. None when the limits are met first.
inline std::optional<Level> GenerateLevel(const RoomConfig& room, std::uint64_t seed, std::uint64_t draw) {
  struct Candidates {
    Bits boxes, players;
    std::uint64_t end;  // cumulative number of states
  };
  thread_local std::vector<Candidates> candidates;
  std::size_t fronts_left = kMaxFronts;
  for (int attempt = 0; attempt < kMaxRooms && fronts_left > 0; ++attempt) {
    constexpr std::uint64_t kPurpose = 0x736f6b6fULL;
    Rng rng(HashCombine(seed, draw), kPurpose, static_cast<std::uint64_t>(attempt));
    const Bits floor = DigRoom(room, rng);
    if (std::popcount(floor) < 2 * room.num_boxes + 1) continue;
    const Bits targets = ChooseCells(floor, room.num_boxes, rng);
    candidates.clear();
    std::uint64_t num_states = 0;
    std::size_t num_fronts = 0;
    ThreadSearch().Run(floor, targets, room.max_moves, fronts_left, [&](int depth, const Front& front) {
      ++num_fronts;
      if (depth >= room.min_moves && (front.boxes & targets) == 0) {
        num_states += static_cast<std::uint64_t>(std::popcount(front.players));
        candidates.push_back({front.boxes, front.players, num_states});
      }
      return true;
    });
    fronts_left -= std::min(fronts_left, num_fronts);
    if (num_states == 0) continue;
    std::uint32_t pick = rng.Below(static_cast<std::uint32_t>(num_states));
    std::size_t i = 0;
    while (candidates[i].end <= pick) ++i;
    Bits players = candidates[i].players;
    for (std::uint64_t skip = pick - (candidates[i].end - static_cast<std::uint64_t>(std::popcount(players)));
         skip > 0; --skip) {
      players &= players - 1;
    }
    return Level{floor, targets, candidates[i].boxes, LowestCell(players)};
  }
  return std::nullopt;
}

}  // namespace lamer::sokoban
