// Run-time choice between AVX-512, AVX2, NEON and scalar code. All levels must give identical bytes.
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

#if defined(__aarch64__) && defined(__ARM_NEON) && defined(__GNUC__)
#define LAMER_NEON 1
#else
#define LAMER_NEON 0
#endif

// Of functions that are called at several levels: each caller compiles them for its own.
#if defined(__GNUC__)
#define LAMER_ALWAYS_INLINE inline __attribute__((always_inline))
#define LAMER_INLINE_LAMBDA __attribute__((always_inline))
#else
#define LAMER_ALWAYS_INLINE inline
#define LAMER_INLINE_LAMBDA
#endif

namespace lamer {

enum class Simd : int { kScalar, kNeon, kAvx2, kAvx512 };

inline constexpr const char* kSimdNames[] = {"scalar", "neon", "avx2", "avx512"};

// Whether this processor has the level. kAvx512 means F, BW, VL, DQ and VBMI (byte permutes).
inline bool HasSimd(Simd level) {
  if (level == Simd::kScalar) return true;
  if (level == Simd::kNeon) return LAMER_NEON;
#if LAMER_X86
  __builtin_cpu_init();
  if (level == Simd::kAvx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vbmi");
  }
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#else
  return false;
#endif
}

inline Simd BestSimd() {
  for (Simd level : {Simd::kAvx512, Simd::kAvx2, Simd::kNeon}) {
    if (HasSimd(level)) return level;
  }
  return Simd::kScalar;
}

inline std::atomic<Simd> simd_setting{BestSimd()};

inline Simd ActiveSimd() { return simd_setting.load(std::memory_order_relaxed); }

// A name of kSimdNames, or "best"; for tests and benchmarks. Not to be called while a batch is at work.
inline void SetSimdLevel(std::string_view name) {
  if (name == "best") return simd_setting.store(BestSimd());
  for (Simd level : {Simd::kScalar, Simd::kNeon, Simd::kAvx2, Simd::kAvx512}) {
    if (name != kSimdNames[static_cast<int>(level)]) continue;
    if (!HasSimd(level)) {
      throw std::invalid_argument("simd level '" + std::string(name) +
                                  "' is not among what this processor has; its best is '" +
                                  kSimdNames[static_cast<int>(BestSimd())] + "'");
    }
    return simd_setting.store(level);
  }
  throw std::invalid_argument("simd level must be 'scalar', 'neon', 'avx2', 'avx512' or 'best', got '" +
                              std::string(name) + "'");
}

}  // namespace lamer
