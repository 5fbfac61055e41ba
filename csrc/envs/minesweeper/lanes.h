// Candidates of boards up to 8x8, many at a time: one 64-bit lane of a vector each, for AVX-512 and AVX2.
// The same steps as Generator takes for one board, and the same boards.
#pragma once

#include <cstdint>

#include "core/rng.h"
#include "core/simd.h"
#include "core/split.h"
#include "envs/minesweeper/board.h"

#if LAMER_X86
#include <immintrin.h>
#endif

namespace lamer::mines {

inline constexpr int kNumLanes = 16;

// Candidates of seeds, and what they give.
struct alignas(64) Lanes {
  std::uint64_t key[kNumLanes] = {};  // Rng::Key
  std::uint64_t candidate[kNumLanes] = {};
  std::uint64_t mines[kNumLanes], start[kNumLanes], task[kNumLanes];
  std::uint64_t unsure[kNumLanes];  // not 0: a random number may have to be drawn again, which no lane does
};

// What all lanes share.
struct LaneRules {
  const Grid<1>& grid;
  int num_mines;
  bool by_env;  // the first cell is opened: its cascade is the start
  std::uint64_t task_salt;
  bool with_tasks;
  Tenths tenths;
};

#if LAMER_X86
// Order of the bytes of two words, each reversed.
inline constexpr long long kReversed[2] = {0x0001020304050607, 0x08090a0b0c0d0e0f};

// A function with vectors must be compiled for their level from its first line on: a template of both cannot.
namespace lanes_avx512 {
#define LAMER_LEVEL __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) inline
using V [[gnu::vector_size(64), gnu::may_alias]] = std::uint64_t;
LAMER_LEVEL bool Any(V x) { return _mm512_test_epi64_mask((__m512i)x, (__m512i)x) != 0; }
LAMER_LEVEL unsigned SignBits(V x) { return _mm512_movepi64_mask((__m512i)x); }
LAMER_LEVEL V Multiply32(V x, V y) { return (V)_mm512_maskz_mul_epu32(0xff, (__m512i)x, (__m512i)y); }
LAMER_LEVEL V ReverseRows(V x) {
  return (V)_mm512_shuffle_epi8((__m512i)x,
                                _mm512_set4_epi64(kReversed[1], kReversed[0], kReversed[1], kReversed[0]));
}
#include "envs/minesweeper/lanes.inc"
#undef LAMER_LEVEL
}  // namespace lanes_avx512

namespace lanes_avx2 {
#define LAMER_LEVEL __attribute__((target("avx2"))) inline
using V [[gnu::vector_size(32), gnu::may_alias]] = std::uint64_t;
LAMER_LEVEL bool Any(V x) { return _mm256_testz_si256((__m256i)x, (__m256i)x) == 0; }
LAMER_LEVEL unsigned SignBits(V x) { return static_cast<unsigned>(_mm256_movemask_pd((__m256d)x)); }
LAMER_LEVEL V Multiply32(V x, V y) { return (V)_mm256_mul_epu32((__m256i)x, (__m256i)y); }
LAMER_LEVEL V ReverseRows(V x) {
  return (V)_mm256_shuffle_epi8((__m256i)x,
                                _mm256_set_epi64x(kReversed[1], kReversed[0], kReversed[1], kReversed[0]));
}
#include "envs/minesweeper/lanes.inc"
#undef LAMER_LEVEL
}  // namespace lanes_avx2
#endif

inline bool HaveLanes() { return ActiveSimd() >= Simd::kAvx2; }
inline int LanesAtOnce() { return ActiveSimd() == Simd::kAvx512 ? 8 : 4; }

// Draws the candidates of lanes first .. first + LanesAtOnce() - 1. Those outside of the split go on to their
// next draw; the others, as bits of the result, have their mines, start and task.
inline unsigned DrawCandidates([[maybe_unused]] const LaneRules& rules, [[maybe_unused]] int first,
                               [[maybe_unused]] Lanes& lanes) {
#if LAMER_X86
  if (ActiveSimd() == Simd::kAvx512) return lanes_avx512::DrawCandidates(rules, first, lanes) << first;
  return lanes_avx2::DrawCandidates(rules, first, lanes) << first;
#else
  return 0;
#endif
}

}  // namespace lamer::mines
