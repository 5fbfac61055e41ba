// Text of a Sokoban board. A row of cells is one or two 64-bit words: the row of an empty room, changed by
// XOR where walls, targets and boxes stand. No branch, no text kept with the board.
//
// compact: "#_OX*PS", one character a cell. numbered: "0: # # _", as the paper's prompts. peers: numbered
// with U+221A.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/text.h"
#include "envs/sokoban_bits.h"

namespace lamer::sokoban {

static_assert(std::endian::native == std::endian::little, "texts and snapshots are little-endian words");

inline constexpr char kWall = '#', kFloor = '_', kTarget = 'O', kBox = 'X', kBoxOnTarget = '*', kPlayer = 'P',
                      kPlayerOnTarget = 'S';
inline constexpr char kSquareRoot[] = "\xe2\x88\x9a";  // peers: a box on its target

class TextLayout {
 public:
  TextLayout(int height, int width) : height_(height), width_(width) {
    for (int y = 0; y < height; ++y) {
      if (y > 0) compact_ += '\n', numbered_ += '\n';
      numbered_ += std::to_string(y) + ":";
      for (int x = 0; x < width; ++x) {
        const bool border = y == 0 || x == 0 || y == height - 1 || x == width - 1;
        compact_ += border ? kWall : kFloor;
        numbered_ += {' ', border ? kWall : kFloor};
      }
    }
  }

  std::size_t TextSize(Style style) const {
    if (style == Style::kPeers) return 0;
    return style == Style::kCompact ? compact_.size() : numbered_.size();
  }

  std::size_t TextSize(Bits targets, Bits boxes, Style style) const {
    if (style != Style::kPeers) return TextSize(style);
    return numbered_.size() + 2 * static_cast<std::size_t>(std::popcount(targets & boxes));
  }

  char* Render(Bits floor, Bits targets, Bits boxes, int player, Style style, char* out) const {
    if (style == Style::kCompact) return RenderCells<1>(compact_, floor, targets, boxes, player, out);
    if (style == Style::kNumbered) return RenderCells<2>(numbered_, floor, targets, boxes, player, out);
    char text[kMaxText];
    const char* end = RenderCells<2>(numbered_, floor, targets, boxes, player, text);
    for (const char* c = text; c != end; ++c) {
      if (*c != kBoxOnTarget) {
        *out++ = *c;
      } else {
        for (int i = 0; i < 3; ++i) *out++ = kSquareRoot[i];
      }
    }
    return out;
  }

 private:
  static constexpr std::size_t kMaxText = 256;  // numbered 10x10: 229

  // Byte i * kStride is 0xff where bit i is set.
  template <int kStride>
  static constexpr auto kSpread = [] {
    std::array<std::uint64_t, (1 << (8 / kStride))> spread{};
    for (std::size_t bits = 0; bits < spread.size(); ++bits) {
      for (int i = 0; i < 8 / kStride; ++i) {
        if (bits >> i & 1) spread[bits] |= std::uint64_t{0xff} << (8 * i * kStride);
      }
    }
    return spread;
  }();

  static constexpr std::uint64_t Change(char from, char to) {
    return static_cast<std::uint64_t>(static_cast<unsigned char>(from ^ to)) * 0x0101010101010101ULL;
  }

  // The words may reach into the next row's first characters: those are the template's own, and rows are
  // written in order. The last row is border, at least 4 cells wide, so no word passes the end of the text.
  template <int kStride>
  char* RenderCells(const std::string& empty, Bits floor, Bits targets, Bits boxes, int player,
                    char* out) const {
    constexpr int kCellsPerWord = 8 / kStride;
    constexpr Bits kWord = (Bits{1} << kCellsPerWord) - 1;
    constexpr std::uint64_t kToWall = Change(kFloor, kWall), kToTarget = Change(kFloor, kTarget),
                            kToBox = Change(kFloor, kBox),
                            kToBoxOnTarget = Change(kFloor, kBoxOnTarget) ^ kToTarget ^ kToBox;
    constexpr auto& kSpreads = kSpread<kStride>;
    const std::size_t row_size = static_cast<std::size_t>(width_ * kStride + (kStride == 2 ? 3 : 1));
    constexpr std::size_t kFirst = kStride == 2 ? 5 : 1;  // offset of the first inner cell in its row
    std::memcpy(out, empty.data(), empty.size());
    const Bits walls = InnerCells(height_, width_) & ~floor;
    const Bits stored = targets & boxes;
    for (int y = 0; y < height_ - 2; ++y) {
      std::size_t at = static_cast<std::size_t>(y + 1) * row_size + kFirst;
      for (int x = 0; x < width_ - 2; x += kCellsPerWord, at += 8) {
        const int shift = 8 * y + x;
        std::uint64_t word;
        std::memcpy(&word, empty.data() + at, 8);
        word ^= (kSpreads[walls >> shift & kWord] & kToWall) ^
                (kSpreads[targets >> shift & kWord] & kToTarget) ^
                (kSpreads[boxes >> shift & kWord] & kToBox) ^
                (kSpreads[stored >> shift & kWord] & kToBoxOnTarget);
        std::memcpy(out + at, &word, 8);
      }
    }
    const std::size_t row = static_cast<std::size_t>(player >> 3),
                      column = static_cast<std::size_t>(player & 7);
    out[(row + 1) * row_size + kFirst + column * kStride] = targets & Bit(player) ? kPlayerOnTarget : kPlayer;
    return out + empty.size();
  }

  int height_, width_;
  std::string compact_, numbered_;  // of a room without inner walls, boxes and player
};

}  // namespace lamer::sokoban
