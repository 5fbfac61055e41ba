// How many tasks a configuration has, and seeds that give each of them once.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/batch_env.h"

namespace lamer {

// Calls visit(seed, task) for seeds 0, 1, ... until it returns false.
template <typename Env, typename Visit>
void ForTasksOfSeeds(const Env& env, Split split, Visit&& visit) {
  constexpr std::size_t kNumSeeds = GeneratesMany<Env> ? 64 : 1;
  std::array<typename Env::Board, kNumSeeds> boards;
  std::array<std::uint64_t, kNumSeeds> seeds;
  for (std::uint64_t first = 0;; first += seeds.size()) {
    std::iota(seeds.begin(), seeds.end(), first);
    GenerateBoards<Env>(env, boards, seeds, split);
    for (std::size_t i = 0; i < seeds.size(); ++i) {
      if (!visit(seeds[i], env.Task(boards[i]))) return;
    }
  }
}

// (count, exact). Where the Env cannot tell, `num_draws` boards of seeds 0, 1, ... give Chao's lower estimate
// distinct + once^2 / (2 * twice), which is near the truth when most tasks were seen more than once.
template <typename Env>
std::pair<std::uint64_t, bool> NumTasks(const Env& env, Split split, std::uint64_t num_draws) {
  if (const std::optional<std::uint64_t> exact = env.CountTasks(split)) return {*exact, true};
  std::unordered_map<std::uint64_t, std::uint32_t> seen;
  if (num_draws == 0) return {0, false};
  ForTasksOfSeeds(env, Split::kNone, [&](std::uint64_t seed, std::uint64_t task) {
    if (InSplit(task, split)) ++seen[task];
    return seed + 1 < num_draws;
  });
  std::uint64_t once = 0, twice = 0;
  for (const auto& [task, count] : seen) {
    once += count == 1;
    twice += count == 2;
  }
  return {seen.size() + once * (once - (once > 0)) / (2 * (twice + 1)), false};
}

// The first `count` seeds, counted from 0, whose boards are distinct tasks of the split. Ends early when the
// split has no more: with all where their number is known, else after `patience` seeds that bring none.
template <typename Env>
std::vector<std::uint64_t> DistinctSeeds(const Env& env, Split split, std::uint64_t count,
                                         std::uint64_t patience) {
  const std::optional<std::uint64_t> exact = env.CountTasks(split);
  if (exact) count = std::min(count, *exact);
  std::unordered_set<std::uint64_t> seen;
  std::vector<std::uint64_t> seeds;
  if (count == 0) return seeds;
  std::uint64_t last = 0;
  ForTasksOfSeeds(env, split, [&](std::uint64_t seed, std::uint64_t task) {
    if (seen.insert(task).second) {
      seeds.push_back(seed);
      last = seed;
    }
    return seeds.size() < count && (exact || seed - last < patience);
  });
  return seeds;
}

}  // namespace lamer
