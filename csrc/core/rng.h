// Counter-based random numbers keyed by (seed, purpose, attempt), and the 64-bit hashes of the project.
// Every result is defined by this file: nothing from <random>, whose output differs between libraries.
#pragma once

#include <cstdint>

namespace lamer {

// The finaliser of SplitMix64: a bijection of 64 bits.
constexpr std::uint64_t Mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

constexpr std::uint64_t HashCombine(std::uint64_t hash, std::uint64_t value) {
  return Mix64(hash + 0x9e3779b97f4a7c15ULL + Mix64(value + 0x632be59bd9b4e019ULL));
}

// The seed of the board that follows `seed` under autoreset.
constexpr std::uint64_t NextSeed(std::uint64_t seed) { return HashCombine(0x6e657874ULL, seed); }

// One stream of 64-bit numbers; number i of a stream is Mix64(key + i * golden).
class Rng {
 public:
  constexpr Rng(std::uint64_t seed, std::uint64_t purpose, std::uint64_t attempt)
      : state_(HashCombine(Key(seed, purpose), attempt)) {}

  // What the streams of all attempts have in common.
  static constexpr std::uint64_t Key(std::uint64_t seed, std::uint64_t purpose) {
    return HashCombine(Mix64(purpose), seed);
  }

  constexpr std::uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    return Mix64(state_);
  }

  // Uniform in [0, bound), bound >= 1, without bias (Lemire, arXiv 1805.10941).
  constexpr std::uint32_t Below(std::uint32_t bound) {
    std::uint64_t product = (Next() >> 32) * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
      const std::uint32_t threshold = (0u - bound) % bound;
      while (static_cast<std::uint32_t>(product) < threshold) product = (Next() >> 32) * bound;
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

 private:
  std::uint64_t state_;
};

}  // namespace lamer
