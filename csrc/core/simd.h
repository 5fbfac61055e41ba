// Run-time choice between AVX-512, AVX2 and scalar code. All levels must give identical bytes.
// A level's functions have __attribute__((target(...))) inside #if LAMER_X86; no file is built -march=native.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <string_view>

#if defined(__x86_64__) && defined(__GNUC__)
#define LAMER_X86 1
#else
#define LAMER_X86 0
#endif

// Of functions that are called at several levels: each caller compiles them for its own.
#if defined(__GNUC__)
#define LAMER_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define LAMER_ALWAYS_INLINE inline
#endif

namespace lamer {

enum class Simd : int { kScalar, kAvx2, kAvx512 };

inline constexpr const char* kSimdNames[] = {"scalar", "avx2", "avx512"};

// The best level of this processor. kAvx512 means F, BW, VL, DQ and VBMI (byte permutes).
inline Simd BestSimd() {
#if LAMER_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vbmi")) {
    return Simd::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return Simd::kAvx2;
#endif
  return Simd::kScalar;
}

inline std::atomic<Simd> simd_setting{BestSimd()};

inline Simd ActiveSimd() { return simd_setting.load(std::memory_order_relaxed); }

// "scalar", "avx2", "avx512" or "best"; for tests and benchmarks. Not to be called while a batch is at work.
inline void SetSimdLevel(std::string_view name) {
  if (name == "best") return simd_setting.store(BestSimd());
  for (int i = 0; i <= static_cast<int>(Simd::kAvx512); ++i) {
    if (name != kSimdNames[i]) continue;
    if (i > static_cast<int>(BestSimd())) {
      throw std::invalid_argument("simd level '" + std::string(name) +
                                  "' is above what this processor has, '" +
                                  kSimdNames[static_cast<int>(BestSimd())] + "'");
    }
    return simd_setting.store(static_cast<Simd>(i));
  }
  throw std::invalid_argument("simd level must be 'scalar', 'avx2', 'avx512' or 'best', got '" +
                              std::string(name) + "'");
}

}  // namespace lamer
