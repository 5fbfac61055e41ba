// Text of a Sokoban board: by vectors as every board's, else row by row in 64-bit words, which for so few cells at
// equal distances is quicker. No text is kept with the board.
//
// compact: "#_OX*PS", one character a cell. numbered: "0: # # _", as the paper's prompts. peers: as numbered,
// a box on its target being U+221A.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/board_text.h"
#include "core/simd.h"
#include "core/text.h"
#include "envs/sokoban/bits.h"
#if LAMER_X86
#include <immintrin.h>
#endif

namespace lamer::sokoban {

inline constexpr char kWall = '#', kFloor = '_', kTarget = 'O', kBox = 'X', kBoxOnTarget = '*', kPlayer = 'P',
                      kPlayerOnTarget = 'S';
inline constexpr char kSquareRoot[] = "\xe2\x88\x9a";  // peers: a box on its target

// By symbol number: 1 a wall, 2 a target, 4 a box, 8 the player.
inline constexpr char kSymbols[17] = "_#OOXX**PPSSPPSS";

class TextLayout {
 public:
  TextLayout(int height, int width)
      : height_(height),
        width_(width),
        inner_(InnerCells(height, width)),
        compact_(height, width, 1),
        numbered_(height, width, 2) {}

  std::size_t TextSize(Style style) const {
    if (style == Style::kPeers) return 0;
    return style == Style::kCompact ? compact_.size : numbered_.size;
  }

  std::size_t TextSize(Bits targets, Bits boxes, Style style) const {
    if (style != Style::kPeers) return TextSize(style);
    return numbered_.size + 2 * static_cast<std::size_t>(std::popcount(targets & boxes));
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

  // The text of a room without inner walls, boxes and player, and where its inner cells stand.
  struct Template {
    // stride: characters per cell.
    Template(int height, int width, int stride)
        : row_size(static_cast<std::size_t>(stride == 2 ? 2 * width + 3 : width + 1)),
          size(row_size * static_cast<std::size_t>(height) - 1) {
      std::size_t at = 0;
      for (int y = 0; y < height; ++y) {
        if (y > 0) text[at++] = '\n';
        if (stride == 2) text[at++] = static_cast<char>('0' + y), text[at++] = ':';
        for (int x = 0; x < width; ++x) {
          if (stride == 2) text[at++] = ' ';
          const bool border = y == 0 || x == 0 || y == height - 1 || x == width - 1;
          if (!border) {
            is_cell[at / 64] |= Bit(static_cast<int>(at % 64));
            cell[at] = static_cast<std::uint8_t>(8 * (y - 1) + x - 1);
            cells.push_back(
                {static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(8 * (y - 1) + x - 1)});
          }
          text[at++] = border ? kWall : kFloor;
        }
      }
    }

    std::size_t row_size;  // with the line's end
    std::size_t size;
    alignas(64) char text[kMaxText] = {};
    alignas(64) std::uint8_t cell[kMaxText] = {};  // of each character that is an inner cell
    Bits is_cell[kMaxText / 64] = {};
    std::vector<BoardText<1>::Cell> cells;

    BoardText<1> Board() const { return {kSymbols, std::string_view(text, size), cells}; }
  };

  template <int kStride>
  char* RenderCells(const Template& empty, Bits floor, Bits targets, Bits boxes, int player,
                    char* out) const {
#if LAMER_X86
    if (ActiveSimd() == Simd::kAvx512)
      return RenderAvx512(empty, inner_ & ~floor, targets, boxes, player, out);
#endif
    if (ActiveSimd() != Simd::kScalar) {
      return RenderVectors(kStride == 1 ? compact_board_ : numbered_board_, inner_ & ~floor, targets, boxes,
                           player, out);
    }
    return RenderWords<kStride>(empty, inner_ & ~floor, targets, boxes, player, out);
  }

#if LAMER_X86
  // All inner cells fit one register: their symbols by masks, then one permutation per 64 characters of text.
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) static char* RenderAvx512(
      const Template& empty, Bits walls, Bits targets, Bits boxes, int player, char* out) {
    __m512i cells = _mm512_set1_epi8(kFloor);
    cells = _mm512_mask_mov_epi8(cells, walls, _mm512_set1_epi8(kWall));
    cells = _mm512_mask_mov_epi8(cells, targets, _mm512_set1_epi8(kTarget));
    cells = _mm512_mask_mov_epi8(cells, boxes, _mm512_set1_epi8(kBox));
    cells = _mm512_mask_mov_epi8(cells, boxes & targets, _mm512_set1_epi8(kBoxOnTarget));
    cells = _mm512_mask_mov_epi8(cells, Bit(player), _mm512_set1_epi8(kPlayer));
    cells = _mm512_mask_mov_epi8(cells, Bit(player) & targets, _mm512_set1_epi8(kPlayerOnTarget));
    for (std::size_t at = 0; at < empty.size; at += 64) {
      const __m512i text = _mm512_load_si512(empty.text + at);
      const __m512i cell = _mm512_load_si512(empty.cell + at);
      const __m512i shown = _mm512_mask_permutexvar_epi8(text, empty.is_cell[at / 64], cell, cells);
      const std::size_t left = empty.size - at;
      if (left >= 64) {
        _mm512_storeu_si512(out + at, shown);
      } else {
        _mm512_mask_storeu_epi8(out + at, Bit(static_cast<int>(left)) - 1, shown);
      }
    }
    return out + empty.size;
  }
#endif

  // Not inline: the loop of the words is slower beside it.
  [[gnu::noinline]] static char* RenderVectors(const BoardText<1>& layout, Bits walls, Bits targets,
                                               Bits boxes, int player, char* out) {
    const auto planes = [walls, targets, boxes, player]() LAMER_INLINE_LAMBDA {
      return BoardText<1>::Planes{{{walls}, {targets}, {boxes}, {Bit(player)}}};
    };
    layout.Render(planes, out);
    return out + layout.size();
  }

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

  // Row by row in 64-bit words, changed by XOR where something stands. A word may reach into the next row's
  // first characters: those are the template's own, and rows are written in order. The last row is border, at
  // least 4 cells wide, so no word passes the end of the text.
  template <int kStride>
  char* RenderWords(const Template& empty, Bits walls, Bits targets, Bits boxes, int player,
                    char* out) const {
    constexpr int kCellsPerWord = 8 / kStride;
    constexpr Bits kWord = (Bits{1} << kCellsPerWord) - 1;
    constexpr std::uint64_t kToWall = Change(kFloor, kWall), kToTarget = Change(kFloor, kTarget),
                            kToBox = Change(kFloor, kBox),
                            kToBoxOnTarget = Change(kFloor, kBoxOnTarget) ^ kToTarget ^ kToBox;
    constexpr auto& kSpreads = kSpread<kStride>;
    constexpr std::size_t kFirst = kStride == 2 ? 5 : 1;  // offset of the first inner cell in its row
    // Blocks of 16, the last one overlapping: every text is longer than that.
    for (std::size_t at = 0; at + 16 < empty.size; at += 16) std::memcpy(out + at, empty.text + at, 16);
    std::memcpy(out + empty.size - 16, empty.text + empty.size - 16, 16);
    const Bits stored = targets & boxes;
    for (int y = 0; y < height_ - 2; ++y) {
      std::size_t at = static_cast<std::size_t>(y + 1) * empty.row_size + kFirst;
      for (int x = 0; x < width_ - 2; x += kCellsPerWord, at += 8) {
        const int shift = 8 * y + x;
        std::uint64_t word;
        std::memcpy(&word, empty.text + at, 8);
        word ^= (kSpreads[walls >> shift & kWord] & kToWall) ^
                (kSpreads[targets >> shift & kWord] & kToTarget) ^
                (kSpreads[boxes >> shift & kWord] & kToBox) ^
                (kSpreads[stored >> shift & kWord] & kToBoxOnTarget);
        std::memcpy(out + at, &word, 8);
      }
    }
    const std::size_t row = static_cast<std::size_t>(player >> 3),
                      column = static_cast<std::size_t>(player & 7);
    out[(row + 1) * empty.row_size + kFirst + column * kStride] =
        targets & Bit(player) ? kPlayerOnTarget : kPlayer;
    return out + empty.size;
  }

  int height_, width_;
  Bits inner_;
  Template compact_, numbered_;
  BoardText<1> compact_board_{compact_.Board()}, numbered_board_{numbered_.Board()};
};

}  // namespace lamer::sokoban
