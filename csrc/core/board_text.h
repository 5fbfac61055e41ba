// Text of a board by every instruction set: a template with a hole for every cell, which shows
// one of 16 symbols. The number of a cell's symbol is bit-sliced: bit i of it stands in plane i.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "core/simd.h"

#if LAMER_X86
#include <immintrin.h>
#elif LAMER_NEON
#include <arm_neon.h>
#endif

namespace lamer {

static_assert(std::endian::native == std::endian::little, "codes and snapshots are little-endian words");

// A vector of 16 bytes is part of every x86-64 and aarch64, so that these few steps need no level.
using Words [[gnu::vector_size(16), gnu::may_alias]] = std::uint64_t;

// The symbol numbers of 64 cells, two a byte, and a byte for each row of 8: columns 0 (low half) and 4, and so on.
struct HalfBytes {
  Words columns0145, columns2367;
};

template <typename Planes>
LAMER_ALWAYS_INLINE HalfBytes HalfBytesOf(const Planes& planes, int i) {
  std::uint64_t plane0 = planes[0].word[i], plane1 = planes[1].word[i], plane2 = planes[2].word[i],
                plane3 = planes[3].word[i];
  // Else a compiler may load two of them as one vector just after it wrote them word by word, for which the
  // processor waits as long as the rest takes.
  asm("" : "+r"(plane0), "+r"(plane1), "+r"(plane2), "+r"(plane3));
  constexpr std::uint64_t kEven = 0x5555555555555555u, kOdd = ~kEven, kPairs = 0x3333333333333333u;
  const Words low = {plane0, plane2}, high = {plane1, plane3};
  const Words even = (low & kEven) | (high & kEven) << 1;  // two bits of each even column
  const Words odd = (low >> 1 & kEven) | (high & kOdd);
  const Words first = {even[0], odd[0]}, second = {even[1], odd[1]};
  return {(first & kPairs) | (second & kPairs) << 2, (first >> 2 & kPairs) | (second & ~kPairs)};
}

inline constexpr std::uint64_t kLowHalves = 0x0f0f0f0f0f0f0f0fu;

// A byte each: that of bit b is byte CodeIndex(b).
struct Codes {
  Words part[4];
};
constexpr int CodeIndex(int bit) { return (bit & 64) | (bit & 7) << 3 | (bit >> 3 & 7); }

LAMER_ALWAYS_INLINE Codes CodesOf(const HalfBytes& two) {
  return {{two.columns0145 & kLowHalves, two.columns2367 & kLowHalves, two.columns0145 >> 4 & kLowHalves,
           two.columns2367 >> 4 & kLowHalves}};
}

// Neighbours in one byte, the left one in the low half: those of bits b and b + 1, b even, are byte PairIndex(b).
struct Pairs {
  Words part[2];
};
constexpr int PairIndex(int bit) { return bit >> 6 << 5 | (bit & 6) << 2 | (bit >> 3 & 7); }

LAMER_ALWAYS_INLINE Pairs PairsOf(const HalfBytes& two) {
  const Words left = {two.columns0145[0], two.columns2367[0]},
              right = {two.columns0145[1], two.columns2367[1]};
  return {
      {(left & kLowHalves) | (right & kLowHalves) << 4, (left >> 4 & kLowHalves) | (right & ~kLowHalves)}};
}

// kWords: 64-bit words of a plane.
template <int kWords>
class BoardText {
 public:
  struct Plane {
    std::array<std::uint64_t, kWords> word;
  };
  using Planes = std::array<Plane, 4>;
  struct Cell {
    std::uint16_t at, bit;  // offset in the text, bit in the planes
  };

  // symbols: 16 characters. cells: in the order of the text, which begins each row at an even bit.
  BoardText(const char* symbols, std::string_view text, std::span<const Cell> cells)
      : text_(text.begin(), text.end()) {
    std::memcpy(symbols_, symbols, sizeof symbols_);
    for (int pair = 0; pair < 256; ++pair) {
      const auto left = static_cast<unsigned char>(symbols[pair % 16]);
      const auto right = static_cast<unsigned char>(symbols[pair / 16]);
      two_symbols_[pair] = static_cast<std::uint16_t>(left | right << 8);
    }
    for (const Cell& cell : cells) {
      if (cell.bit % 2 != 0) {
        pairs_.back().right = cell.at;
      } else {
        pairs_.push_back({cell.at, cell.at, static_cast<std::uint16_t>(PairIndex(cell.bit))});
      }
    }
#if LAMER_X86
    Divide(blocks64_, cells, [](int bit) { return bit; });
    Divide(blocks32_, cells, CodeIndex);
    for (auto& block : blocks32_) {
      for (int i = 0; i < 32; ++i) {
        if (block.source[i] == kNoCell) continue;
        block.text[i] = 0;
        for (int part = 0; part < kParts; ++part) {
          const bool here = block.source[i] / 16 == part;
          block.select[part][i] = static_cast<std::uint8_t>(here ? block.source[i] % 16 : 0x80);
        }
      }
    }
#elif LAMER_NEON
    Divide(blocks16_, cells, CodeIndex);
#endif
  }

  std::size_t size() const { return text_.size(); }

  // Writes size() bytes. make_planes() gives four of Plane, or what has its `word`, and must be inlined always:
  // planes that are handed over in memory cost as much as the text.
  template <typename MakePlanes>
  void Render(const MakePlanes& make_planes, char* out) const {
#if LAMER_X86
    const Simd simd = ActiveSimd();
    if (simd == Simd::kAvx512 && two_words_) return RenderAvx512(make_planes, out);
    if (simd == Simd::kAvx2 && two_words_) return RenderWhole<32>(make_planes, out);
#elif LAMER_NEON
    if (ActiveSimd() == Simd::kNeon && two_words_) return RenderWhole<16>(make_planes, out);
#endif
    RenderScalar(make_planes, out);
  }

 private:
  static constexpr std::uint8_t kNoCell = 0xff;
  static constexpr int kReach = kWords == 1 ? 1 : 2;  // words that the cells of one block come from
  static constexpr int kParts = 4 * kReach;

  // Two cells of a row: their offsets in the text and their byte.
  struct Pair {
    std::uint16_t left, right, index;
  };

  // kBytes of text from `at` on. The last block ends where the text does and overlaps the one before it, but of
  // 64 bytes, which have masks: there it is stored in part.
  template <int kBytes>
  struct alignas(kBytes) Block {
    char text[kBytes] = {};
    std::uint8_t source[kBytes];  // of each byte its cell, counted from the first of `word`, or kNoCell
    std::uint64_t is_cell = 0, stored = 0;  // masks
    std::uint16_t at = 0, word = 0;
  };
  // AVX2 permutes 16 bytes at a time: of each byte where it stands in each part of the codes; 0x80: not there.
  struct Block32 : Block<32> {
    alignas(32) std::uint8_t select[kParts][32];
    Block32() { std::memset(select, 0x80, sizeof select); }
  };

  template <typename AnyBlock, typename Index>
  void Divide(std::vector<AnyBlock>& blocks, std::span<const Cell> cells, Index&& index) {
    constexpr std::size_t kBytes = sizeof AnyBlock{}.text;
    blocks.resize((size() + kBytes - 1) / kBytes);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      AnyBlock& block = blocks[i];
      std::size_t at = i * kBytes;
      if (kBytes < 64 && size() >= kBytes) at = std::min(at, size() - kBytes);
      const std::size_t end = std::min(at + kBytes, size());
      block.stored = ~std::uint64_t{0} >> (64 - (end - at));
      block.at = static_cast<std::uint16_t>(at);
      std::memcpy(block.text, text_.data() + at, end - at);
      std::memset(block.source, kNoCell, kBytes);
      for (const Cell& cell : cells) {
        if (cell.at < at || cell.at >= end) continue;
        if (block.is_cell == 0) block.word = std::min<std::uint16_t>(cell.bit / 64, kWords - kReach);
        const int bit = cell.bit - 64 * block.word;
        if (bit >= 64 * kReach) two_words_ = false;
        block.source[cell.at - at] = static_cast<std::uint8_t>(index(bit & (64 * kReach - 1)));
        block.is_cell |= std::uint64_t{1} << (cell.at - at);
      }
    }
  }

  template <typename MakePlanes>
  void RenderScalar(const MakePlanes& make_planes, char* out) const {
    const auto planes = make_planes();
    Pairs pairs[kWords];
    for (int i = 0; i < kWords; ++i) pairs[i] = PairsOf(HalfBytesOf(planes, i));
    std::uint8_t pair[32 * kWords];
    std::memcpy(pair, pairs, sizeof pair);
    const std::size_t end = size();
    if (end < 16) {
      std::memcpy(out, text_.data(), end);
    } else {
      for (std::size_t at = 0; at + 16 < end; at += 16) std::memcpy(out + at, text_.data() + at, 16);
      std::memcpy(out + end - 16, text_.data() + end - 16, 16);
    }
    for (const Pair& two : pairs_) {
      const std::uint16_t symbols = two_symbols_[pair[two.index]];
      out[two.right] = static_cast<char>(symbols >> 8);
      out[two.left] = static_cast<char>(symbols);  // last: a cell that stands alone has one place
    }
  }

  // By blocks of kBytes, which a shorter text has no room for.
  template <int kBytes, typename MakePlanes>
  void RenderWhole(const MakePlanes& make_planes, char* out) const {
    if (size() >= kBytes) return RenderBlocks(make_planes, out);
    char block[kBytes];
    RenderBlocks(make_planes, block);
    std::memcpy(out, block, size());
  }

#if LAMER_X86
  template <typename MakePlanes>
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) void RenderAvx512(
      const MakePlanes& make_planes, char* out) const {
    const auto planes = make_planes();
    // maskz: g++ 12 warns of its own header's undefined operand otherwise.
    const __m512i table =
        _mm512_maskz_broadcast_i32x4(0xffff, _mm_load_si128(reinterpret_cast<const __m128i*>(symbols_)));
    __m512i shown[kWords];
    for (int i = 0; i < kWords; ++i) {
      __m512i code = _mm512_maskz_set1_epi8(planes[0].word[i], 1);
      code = _mm512_or_si512(code, _mm512_maskz_set1_epi8(planes[1].word[i], 2));
      code = _mm512_or_si512(code, _mm512_maskz_set1_epi8(planes[2].word[i], 4));
      code = _mm512_or_si512(code, _mm512_maskz_set1_epi8(planes[3].word[i], 8));
      shown[i] = _mm512_shuffle_epi8(table, code);
    }
    for (const auto& block : blocks64_) {
      const __m512i text = _mm512_load_si512(block.text), source = _mm512_load_si512(block.source);
      __m512i cells;
      if constexpr (kWords == 1) {
        cells = _mm512_mask_permutexvar_epi8(text, block.is_cell, source, shown[0]);
      } else {
        cells = _mm512_permutex2var_epi8(shown[block.word], source, shown[block.word + 1]);
        cells = _mm512_mask_mov_epi8(text, block.is_cell, cells);
      }
      if (block.stored == ~std::uint64_t{0}) {
        _mm512_storeu_si512(out, cells);
      } else {
        _mm512_mask_storeu_epi8(out, block.stored, cells);
      }
      out += 64;
    }
  }

  template <typename MakePlanes>
  __attribute__((target("avx2"))) void RenderBlocks(const MakePlanes& make_planes, char* out) const {
    const auto planes = make_planes();
    const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(symbols_));
    __m256i shown[4 * kWords];
    for (int i = 0; i < kWords; ++i) {
      const Codes codes = CodesOf(HalfBytesOf(planes, i));
      for (int part = 0; part < 4; ++part) {
        const __m128i symbols = _mm_shuffle_epi8(table, (__m128i)codes.part[part]);
        shown[4 * i + part] = _mm256_broadcastsi128_si256(symbols);
      }
    }
    for (const auto& block : blocks32_) {
      __m256i text = _mm256_load_si256(reinterpret_cast<const __m256i*>(block.text));
      const int first = kWords == 1 ? 0 : 4 * block.word;  // a constant: then `shown` stays in registers
      for (int part = 0; part < kParts; ++part) {
        const __m256i select = _mm256_load_si256(reinterpret_cast<const __m256i*>(block.select[part]));
        text = _mm256_or_si256(text, _mm256_shuffle_epi8(shown[first + part], select));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + block.at), text);
    }
  }

  std::vector<Block<64>> blocks64_;
  std::vector<Block32> blocks32_;
#elif LAMER_NEON
  template <typename MakePlanes>
  void RenderBlocks(const MakePlanes& make_planes, char* out) const {
    const auto planes = make_planes();
    const uint8x16_t table = vld1q_u8(reinterpret_cast<const std::uint8_t*>(symbols_));
    uint8x16x4_t shown[kWords];
    for (int i = 0; i < kWords; ++i) {
      const Codes codes = CodesOf(HalfBytesOf(planes, i));
      for (int part = 0; part < 4; ++part)
        shown[i].val[part] = vqtbl1q_u8(table, (uint8x16_t)codes.part[part]);
    }
    for (const auto& block : blocks16_) {
      // A byte whose source lies beyond the 64 of a table stays as it is.
      uint8x16_t text = vld1q_u8(reinterpret_cast<const std::uint8_t*>(block.text));
      const uint8x16_t source = vld1q_u8(block.source);
      text = vqtbx4q_u8(text, shown[kWords == 1 ? 0 : block.word], source);
      if constexpr (kWords > 1)
        text = vqtbx4q_u8(text, shown[block.word + 1], vsubq_u8(source, vdupq_n_u8(64)));
      vst1q_u8(reinterpret_cast<std::uint8_t*>(out + block.at), text);
    }
  }

  std::vector<Block<16>> blocks16_;
#endif

  alignas(16) char symbols_[16];
  bool two_words_ = true;  // every block has its cells in `word` and the next
  std::vector<char> text_;
  std::uint16_t two_symbols_[256];  // by a byte of Pairs: two characters
  std::vector<Pair> pairs_;
};

}  // namespace lamer
