// A board of Sokoban, and its record in a snapshot: six words.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>

#include "envs/sokoban/bits.h"
#include "envs/sokoban/config.h"
#include "envs/sokoban/controls.h"
#include "envs/sokoban/search.h"

namespace lamer::sokoban {

// The small fields of a board: one word, in memory as in a snapshot.
struct Flags {
  std::uint8_t player = 0, start_player = 0;
  bool done = true, success = false, dead = false;
  std::uint8_t rule = 0;  // of the controls
  // With show_moves: the last word of this episode, and the way it led, both from 1; 0: none. With sticky
  // moves `went` is kept in any case: it is what is repeated.
  std::uint8_t said = 0, went = 0;
};

// With sticky moves: what decides the luck of the next turn. Zero without.
struct Luck {
  std::uint32_t key = 0;  // of the seed
  std::uint16_t episode = 0, turn = 0;
};

struct Board : Flags {
  Luck luck;
  Bits floor = 0, targets = 0, boxes = 0, start_boxes = 0;
  std::shared_ptr<const DistanceTable> table;  // of this level, when it was needed
};

// floor, targets, boxes, start_boxes, Flags, Luck.
using Record = std::array<std::uint64_t, 6>;
static_assert(sizeof(Record) == 4 * sizeof(Bits) + sizeof(Flags) + sizeof(Luck));

inline std::uint64_t Word(const char* record, std::size_t i) {
  std::uint64_t word;
  std::memcpy(&word, record + i * sizeof word, sizeof word);
  return word;
}

inline void Save(const Board& board, char* out) {
  const Record record{board.floor,
                      board.targets,
                      board.boxes,
                      board.start_boxes,
                      std::bit_cast<std::uint64_t>(static_cast<const Flags&>(board)),
                      std::bit_cast<std::uint64_t>(board.luck)};
  std::memcpy(out, record.data(), sizeof record);
}

inline void Load(Board& board, const char* data) {
  const std::uint64_t floor = Word(data, 0), targets = Word(data, 1);
  if (board.floor != floor || board.targets != targets) board.table.reset();
  board.floor = floor;
  board.targets = targets;
  board.boxes = Word(data, 2);
  board.start_boxes = Word(data, 3);
  static_cast<Flags&>(board) = std::bit_cast<Flags>(Word(data, 4));
  board.luck = std::bit_cast<Luck>(Word(data, 5));
}

// Whether a word can have led so under the rule; nothing is said without show_moves. A sticky turn can have led
// anywhere.
inline bool IsLine(const SokobanConfig& config, int rule, int said, int went) {
  if (said == 0 && went == 0) return true;
  if (config.sticky != 0) return went < kNumWords && said <= (config.show_moves ? kNumWords : 0);
  if (said == 0 || !config.show_moves) return false;
  const int move =
      said > kNumWords ? 0 : kRules[static_cast<std::size_t>(rule)][static_cast<std::size_t>(said)];
  return move != 0 && (went == 0 || (went == move && move < kNumWords));
}

// Whether each of the sets has exactly `count` >= 1 cells; a few cells are quicker taken away than counted.
constexpr bool HaveCells(int count, Bits a, Bits b, Bits c) {
  for (int i = 1; i < count; ++i) a &= a - 1, b &= b - 1, c &= c - 1;
  return (a != 0) & (b != 0) & (c != 0) & (((a & (a - 1)) | (b & (b - 1)) | (c & (c - 1))) == 0);
}

// Whether a record is a board that these rules can have made. inner: the cells within the border.
inline bool IsBoard(const char* data, const SokobanConfig& config, Bits inner) {
  const std::uint64_t floor = Word(data, 0), targets = Word(data, 1), boxes = Word(data, 2),
                      start_boxes = Word(data, 3), rest = Word(data, 4), luck = Word(data, 5);
  // Few words for all cells at once, so that the check costs no more than the copy.
  const Bits stray = (floor & ~inner) | ((targets | boxes | start_boxes) & ~floor) |
                     (rest & ~std::uint64_t{0x07'07'ff'01'01'01'3f'3f});
  const Bits free = floor ^ boxes, start_free = floor ^ start_boxes;
  const bool stands = (free >> (rest & 63) & start_free >> (rest >> 8 & 63) & 1) != 0;
  const int count = config.levels ? std::popcount(targets) : config.num_boxes;
  const int rule = rest >> 40 & 0xff, said = rest >> 48 & 0xff, went = rest >> 56 & 0xff;
  const bool ruled = rule < NumRules(config.controls) && IsLine(config, rule, said, went) &&
                     (luck == 0 || config.sticky != 0);
  const bool sound = stray == 0 && stands && ruled && count >= 1 && count <= kMaxBoxes &&
                     HaveCells(count, targets, boxes, start_boxes);
  const bool never_reset = (floor | targets | boxes | start_boxes | luck) == 0 && rest == 1 << 16;
  return sound || never_reset;
}

}  // namespace lamer::sokoban
