// Bitboards of the inner 8x8 cells of a room: bit 8 * y + x, y and x from 0 behind the border wall.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "core/rng.h"

namespace lamer::sokoban {

using Bits = std::uint64_t;

inline constexpr int kMaxInner = 8;
inline constexpr int kCells = 64;

enum Move : int { kUp, kDown, kLeft, kRight };
inline constexpr int kCellOffset[4] = {-8, 8, -1, 1};

// All cells of the set moved one cell; those that would leave the 8x8 square vanish.
template <int kDir>
constexpr Bits Shift(Bits set) {
  if constexpr (kDir == kUp) return set >> 8;
  if constexpr (kDir == kDown) return set << 8;
  if constexpr (kDir == kLeft) return (set & 0xfefefefefefefefeULL) >> 1;
  if constexpr (kDir == kRight) return (set & 0x7f7f7f7f7f7f7f7fULL) << 1;
}

constexpr Bits Shift(int dir, Bits set) {
  switch (dir) {
    case kUp:
      return Shift<kUp>(set);
    case kDown:
      return Shift<kDown>(set);
    case kLeft:
      return Shift<kLeft>(set);
    default:
      return Shift<kRight>(set);
  }
}

// Of one move: the cell the player steps to and the one behind it, empty sets where the 8x8 square ends.
struct Moves {
  std::array<Bits, kCells> to, beyond;
  int offset;
};

// By the move plus 1: nothing, the four directions, still.
inline constexpr std::array<Moves, 6> kMoves = [] {
  std::array<Moves, 6> moves{};
  for (int dir = 0; dir < 4; ++dir) {
    Moves& m = moves[static_cast<std::size_t>(dir + 1)];
    m.offset = kCellOffset[dir];
    for (std::size_t cell = 0; cell < kCells; ++cell) {
      m.to[cell] = Shift(dir, Bits{1} << cell);
      m.beyond[cell] = Shift(dir, m.to[cell]);
    }
  }
  return moves;
}();

constexpr Bits AllOnes(Bits set) { return Bits{0} - Bits{set != 0}; }

// The set and all its neighbours.
constexpr Bits Dilate(Bits set) {
  return set | Shift<kUp>(set) | Shift<kDown>(set) | Shift<kLeft>(set) | Shift<kRight>(set);
}

// Cells of `region` connected to `start`.
constexpr Bits Flood(Bits start, Bits region) {
  Bits reached = start & region;
  for (;;) {
    const Bits next = Dilate(reached) & region;
    if (next == reached) return reached;
    reached = next;
  }
}

constexpr Bits Bit(int cell) { return Bits{1} << cell; }
constexpr int LowestCell(Bits set) { return std::countr_zero(set); }

// The inner cells of a room of height x width, border included.
constexpr Bits InnerCells(int height, int width) {
  Bits cells = 0;
  for (int y = 0; y < height - 2; ++y) cells |= ((Bits{1} << (width - 2)) - 1) << (8 * y);
  return cells;
}

constexpr Bits FlipRows(Bits b) {
  b = ((b >> 8) & 0x00ff00ff00ff00ffULL) | ((b & 0x00ff00ff00ff00ffULL) << 8);
  b = ((b >> 16) & 0x0000ffff0000ffffULL) | ((b & 0x0000ffff0000ffffULL) << 16);
  return (b >> 32) | (b << 32);
}

constexpr Bits FlipColumns(Bits b) {
  b = ((b >> 1) & 0x5555555555555555ULL) | ((b & 0x5555555555555555ULL) << 1);
  b = ((b >> 2) & 0x3333333333333333ULL) | ((b & 0x3333333333333333ULL) << 2);
  return ((b >> 4) & 0x0f0f0f0f0f0f0f0fULL) | ((b & 0x0f0f0f0f0f0f0f0fULL) << 4);
}

constexpr Bits Transpose(Bits b) {
  Bits t = (b ^ (b >> 7)) & 0x00aa00aa00aa00aaULL;
  b ^= t ^ (t << 7);
  t = (b ^ (b >> 14)) & 0x0000cccc0000ccccULL;
  b ^= t ^ (t << 14);
  t = (b ^ (b >> 28)) & 0x00000000f0f0f0f0ULL;
  return b ^ t ^ (t << 28);
}

// The start of a level. Everything a task is, up to symmetry.
struct Level {
  Bits floor = 0;  // cells that are no wall
  Bits targets = 0;
  Bits boxes = 0;
  std::int32_t player = 0;
};

// Hash of the least of the 8 images, each moved to the corner: cells that nobody can reach count as wall, so
// two levels that play alike have one id, whatever the size of the room around them.
inline std::uint64_t CanonicalId(const Level& level) {
  const Bits things = level.targets | level.boxes;
  const Bits floor = Flood(Bit(level.player), level.floor) | things;
  std::array<Bits, 4> least{};
  for (int symmetry = 0; symmetry < 8; ++symmetry) {
    std::array<Bits, 4> image = {floor, level.targets, level.boxes, Bit(level.player)};
    for (Bits& b : image) {
      if (symmetry & 1) b = FlipRows(b);
      if (symmetry & 2) b = FlipColumns(b);
      if (symmetry & 4) b = Transpose(b);
    }
    const int rows = LowestCell(image[0]) & ~7;
    Bits columns = image[0] | image[0] >> 32;
    columns |= columns >> 16;
    columns |= columns >> 8;
    const int shift = rows + LowestCell(columns & 0xff);
    for (Bits& b : image) b >>= shift;
    if (symmetry == 0 || image < least) least = image;
  }
  std::uint64_t hash = 0x736f6b6f62616eULL;
  for (Bits b : least) hash = HashCombine(hash, b);
  return hash;
}

}  // namespace lamer::sokoban
