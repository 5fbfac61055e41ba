// How many tasks a configuration has, and seeds that give each of them once.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/batch_env.h"

namespace lamer {

// (count, exact). Where the Env cannot tell, `num_draws` boards of seeds 0, 1, ... give Chao's lower estimate
// distinct + once^2 / (2 * twice), which is near the truth when most tasks were seen more than once.
template <typename Env>
std::pair<std::uint64_t, bool> NumTasks(const Env& env, Split split, std::uint64_t num_draws) {
  if (const std::optional<std::uint64_t> exact = env.CountTasks(split)) return {*exact, true};
  std::unordered_map<std::uint64_t, std::uint32_t> seen;
  typename Env::Board board;
  for (std::uint64_t seed = 0; seed < num_draws; ++seed) {
    env.Generate(board, seed, 0);
    const std::uint64_t task = env.Task(board);
    if (InSplit(task, split)) ++seen[task];
  }
  std::uint64_t once = 0, twice = 0;
  for (const auto& [task, count] : seen) {
    once += count == 1;
    twice += count == 2;
  }
  return {seen.size() + once * (once - (once > 0)) / (2 * (twice + 1)), false};
}

// The first `count` seeds, counted from 0, whose boards are distinct tasks of the split. Ends early when the
// split has no more: with all of them where their number is known, else after `patience` seeds without a new
// task.
template <typename Env>
std::vector<std::uint64_t> DistinctSeeds(const Env& env, Split split, std::uint64_t count,
                                         std::uint64_t patience) {
  const std::optional<std::uint64_t> exact = env.CountTasks(split);
  if (exact) count = std::min(count, *exact);
  std::unordered_set<std::uint64_t> seen;
  std::vector<std::uint64_t> seeds;
  typename Env::Board board;
  std::uint64_t last = 0;
  for (std::uint64_t seed = 0; seeds.size() < count && seed - last <= patience; ++seed) {
    DrawBoard(env, board, seed, split);
    if (!seen.insert(env.Task(board)).second) continue;
    seeds.push_back(seed);
    last = seed;
  }
  return seeds;
}

}  // namespace lamer
