// Train / valid / test by the canonical id of a task, so that no seed of one split gives a task of another.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lamer {

enum class Split : std::uint8_t { kNone, kTrain, kValid, kTest };

inline Split ParseSplit(std::string_view name) {
  if (name == "train") return Split::kTrain;
  if (name == "valid") return Split::kValid;
  if (name == "test") return Split::kTest;
  throw std::invalid_argument("split must be None, 'train', 'valid' or 'test', got '" + std::string(name) +
                              "'");
}

constexpr const char* SplitName(Split split) {
  constexpr const char* kNames[] = {"None", "train", "valid", "test"};
  return kNames[static_cast<int>(split)];
}

// 80 / 10 / 10 by the high bits of the id: ids are hashes, so every bit is as good as another.
constexpr Split SplitOf(std::uint64_t task) {
  const std::uint64_t tenth = ((task >> 32) * 10) >> 32;
  return tenth < 8 ? Split::kTrain : tenth == 8 ? Split::kValid : Split::kTest;
}

constexpr bool InSplit(std::uint64_t task, Split split) {
  return split == Split::kNone || SplitOf(task) == split;
}

}  // namespace lamer
