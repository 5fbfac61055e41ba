// What a Minesweeper board looks like: visible symbols in bit-sliced form, and the styles of text.
// Layouts and symbols follow the official LaMer environment (9a4756c): `Row 1: ? ? 1 . 1 *`.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/simd.h"
#include "core/text.h"
#include "envs/minesweeper/board.h"

#if LAMER_X86
#include <immintrin.h>
#endif

namespace lamer::mines {

// Symbol numbers, bit-sliced: 0 to 8 an open cell with that number, 9 an opened mine, 15 a hidden cell.
inline constexpr char kSymbols[17] = ".12345678*     ?";

// Always inline, as CountNeighbours: sets that are handed over in memory cost more than all the arithmetic.
template <int kWords>
LAMER_ALWAYS_INLINE constexpr std::array<Bits<kWords>, 4> VisibleSymbols(const Bits<kWords>& mines,
                                                                         const Bits<kWords>& opened) {
  const auto numbers = CountNeighbours(mines).plane;
  const Bits<kWords> hidden = ~opened, hit = opened & mines, number = opened & ~mines;
  return {(numbers[0] & number) | hidden | hit, (numbers[1] & number) | hidden,
          (numbers[2] & number) | hidden, (numbers[3] & number) | hidden | hit};
}

// One style of one board size: a template with holes for the symbols.
template <int kWords>
class TextLayout {
 public:
  using B = Bits<kWords>;

  TextLayout(const Grid<kWords>& grid, Style style) {
    const bool numbered = style != Style::kCompact;
    std::string text;
    for (int row = 0; row < grid.height; ++row) {
      if (row > 0) text += '\n';
      if (numbered) text += "Row " + std::to_string(row + 1) + ": ";
      for (int column = 0; column < grid.width; ++column) {
        if (numbered && column > 0) text += ' ';
        cells_.push_back(
            {static_cast<std::uint16_t>(text.size()), static_cast<std::uint16_t>(row * B::kStride + column)});
        text += '?';
      }
    }
    size_ = static_cast<int>(text.size());
    chunks_.resize((text.size() + 63) / 64);
    text.resize(chunks_.size() * 64, ' ');
    for (std::size_t i = 0; i < chunks_.size(); ++i) std::memcpy(chunks_[i].text, text.data() + 64 * i, 64);
    for (const auto& cell : cells_) {
      Chunk& chunk = chunks_[cell.at / 64];
      if (chunk.is_cell == 0) chunk.word = cell.bit / 64;  // cells come in order
      two_words_ &= cell.bit / 64 - chunk.word < 2;
      chunk.source[cell.at % 64] = static_cast<std::uint8_t>(cell.bit - 64 * chunk.word);
      chunk.is_cell |= std::uint64_t{1} << cell.at % 64;
    }
  }

  int size() const { return size_; }

  // Writes size() bytes.
  void Render(const B& mines, const B& opened, char* out) const {
#if LAMER_X86
    const Simd simd = ActiveSimd();
    if (simd == Simd::kAvx512 && two_words_) return RenderAvx512(mines, opened, out);
    if (simd >= Simd::kAvx2) return RenderAvx2(mines, opened, out);
#endif
    RenderScalar(mines, opened, out);
  }

 private:
  struct Cell {
    std::uint16_t at, bit;
  };
  // 64 bytes of text: the template, and which of its bytes show which bit, counted from those of `word`.
  struct alignas(64) Chunk {
    char text[64];
    std::uint8_t source[64] = {};
    std::uint64_t is_cell = 0;
    int word = 0;
  };

  void RenderScalar(const B& mines, const B& opened, char* out) const {
    const auto symbols = VisibleSymbols(mines, opened);
    char symbol[B::kNumBits];
    for (int i = 0; i < B::kNumBits / 8; ++i) {
      const std::uint64_t codes = SpreadBits(symbols[0], i) | SpreadBits(symbols[1], i) << 1 |
                                  SpreadBits(symbols[2], i) << 2 | SpreadBits(symbols[3], i) << 3;
      for (int k = 0; k < 8; ++k) symbol[i * 8 + k] = kSymbols[codes >> 8 * k & 15];
    }
    FillHoles(symbol, out);
  }

  // Byte i of the set as 8 bytes of 0 or 1.
  static constexpr std::uint64_t SpreadBits(const B& set, int i) {
    const std::uint64_t byte = set.word[i / 8] >> i % 8 * 8 & 0xff;
    const std::uint64_t low = ((byte & 0x7f) * 0x0002040810204081u) & 0x0101010101010101u;
    return low | (byte >> 7) << 56;
  }

  void FillHoles(const char* symbol, char* out) const {
    for (int left = size_, i = 0; left > 0; left -= 64, ++i)
      std::memcpy(out + 64 * i, chunks_[i].text, left < 64 ? left : 64);
    for (const auto& cell : cells_) out[cell.at] = symbol[cell.bit];
  }

#if LAMER_X86
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) void RenderAvx512(const B& mines,
                                                                                    const B& opened,
                                                                                    char* out) const {
    const auto symbols = VisibleSymbols(mines, opened);
    // maskz: g++ 12 warns of its own header's undefined operand otherwise.
    const __m512i table =
        _mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(kSymbols)));
    __m512i symbol[kWords + 1];
    for (int i = 0; i < kWords; ++i) {
      __m512i code = _mm512_maskz_set1_epi8(symbols[0].word[i], 1);
      code = _mm512_or_si512(code, _mm512_maskz_set1_epi8(symbols[1].word[i], 2));
      code = _mm512_or_si512(code, _mm512_maskz_set1_epi8(symbols[2].word[i], 4));
      code = _mm512_or_si512(code, _mm512_maskz_set1_epi8(symbols[3].word[i], 8));
      symbol[i] = _mm512_shuffle_epi8(table, code);
    }
    symbol[kWords] = table;  // never a source
    const Chunk* chunk = chunks_.data();
    for (int left = size_; left > 0; ++chunk, out += 64, left -= 64) {
      const __m512i source = _mm512_load_si512(chunk->source);
      __m512i cells;
      if constexpr (kWords == 1) {
        cells = _mm512_maskz_permutexvar_epi8(chunk->is_cell, source, symbol[0]);
      } else {
        cells = _mm512_permutex2var_epi8(symbol[chunk->word], source, symbol[chunk->word + 1]);
      }
      const __m512i text = _mm512_mask_mov_epi8(_mm512_load_si512(chunk->text), chunk->is_cell, cells);
      const __mmask64 stored = left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
      _mm512_mask_storeu_epi8(out, stored, text);
    }
  }

  __attribute__((target("avx2"))) void RenderAvx2(const B& mines, const B& opened, char* out) const {
    const auto symbols = VisibleSymbols(mines, opened);
    const __m256i table =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kSymbols)));
    const __m256i own_bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
    const __m256i own_byte =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    alignas(32) char symbol[B::kNumBits];
    for (int half = 0; half < 2 * kWords; ++half) {
      __m256i code = _mm256_setzero_si256();
      for (int i = 0; i < 4; ++i) {
        const __m256i bytes = _mm256_set1_epi32(static_cast<int>(symbols[i].word[half / 2] >> half % 2 * 32));
        const __m256i bits = _mm256_and_si256(_mm256_shuffle_epi8(bytes, own_byte), own_bit);
        const __m256i weight = _mm256_set1_epi8(static_cast<char>(1 << i));
        code = _mm256_or_si256(code, _mm256_and_si256(_mm256_cmpeq_epi8(bits, own_bit), weight));
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(symbol + 32 * half), _mm256_shuffle_epi8(table, code));
    }
    FillHoles(symbol, out);
  }
#endif

  int size_ = 0;
  bool two_words_ = true;  // every chunk has its cells in `word` and the next
  std::vector<Chunk> chunks_;
  std::vector<Cell> cells_;
};

}  // namespace lamer::mines
