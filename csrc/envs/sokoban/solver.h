// How far a board is from its solution: by the table of its level, else by a bounded search.
#pragma once

#include <bit>
#include <cstdint>

#include "envs/sokoban/board.h"
#include "envs/sokoban/search.h"

namespace lamer::sokoban {

// Tables are made when they are first needed; boards of one level share one.
class Solver {
 public:
  // Fewest moves that solve the board as it stands: -1 when it cannot be solved, -2 when that is not known.
  std::int32_t Distance(Board& board) const {
    if (board.floor == 0) return -1;
    if (const auto* table = Table(board)) {
      const int distance = (*table)(board.boxes, board.player);
      if (distance == DistanceTable::kDead) return -1;
      if (distance < DistanceTable::kFar) return distance;
    }
    const auto found = BoundedSearch(board.floor, board.targets, board.boxes, board.player);
    if (found.solvable == Solvable::kYes) return found.distance;
    return found.solvable == Solvable::kNo ? -1 : -2;
  }

  // The least first move of a shortest solution; -1 when the board is done or cannot be solved, or when its
  // level is too large for a table and kMaxSearchFronts did not suffice.
  std::int32_t Move(Board& board) const {
    if (board.done) return -1;
    if (const auto* table = Table(board)) {
      const int distance = (*table)(board.boxes, board.player);
      if (distance == DistanceTable::kDead) return -1;
      for (int dir = 0; distance < DistanceTable::kFar && dir < 4; ++dir) {
        Bits boxes = board.boxes, player = Bit(board.player);
        if (!Apply(board.floor, dir, boxes, player)) continue;
        if ((*table)(boxes, LowestCell(player)) == distance - 1) return dir;
      }
    }
    return BoundedSearch(board.floor, board.targets, board.boxes, board.player).action;
  }

  bool IsDead(Board& board) const {
    if (const auto* table = Table(board)) {
      return (*table)(board.boxes, board.player) == DistanceTable::kDead;
    }
    return BoundedSearch(board.floor, board.targets, board.boxes, board.player).solvable == Solvable::kNo;
  }

 private:
  // Null when the table would be larger than kMaxBytes.
  const DistanceTable* Table(Board& board) const {
    if (board.table) return board.table.get();
    if (DistanceTable::Bytes(board.floor, std::popcount(board.targets)) > DistanceTable::kMaxBytes)
      return nullptr;
    board.table = tables_.Get(board.floor, board.targets);
    return board.table.get();
  }

  mutable TableCache tables_;
};

}  // namespace lamer::sokoban
