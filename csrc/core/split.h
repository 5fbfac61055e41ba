// Train / valid / test by the canonical id of a task, so that no seed of one split gives a task of another.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lamer {

// No board of the wanted kind within the stated number of tries.
class GenerationError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

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

// 0 to 9 by the high bits of the id: ids are hashes, so every bit is as good as another.
constexpr std::uint64_t TenthOf(std::uint64_t task) { return ((task >> 32) * 10) >> 32; }

// The tenths of a split: first .. end - 1.
struct Tenths {
  std::uint64_t first, end;
};
constexpr Tenths TenthsOf(Split split) {
  constexpr Tenths kTenths[] = {{0, 10}, {0, 8}, {8, 9}, {9, 10}};
  return kTenths[static_cast<int>(split)];
}

constexpr bool InSplit(std::uint64_t task, Split split) {
  const Tenths tenths = TenthsOf(split);
  return TenthOf(task) >= tenths.first && TenthOf(task) < tenths.end;
}

constexpr Split SplitOf(std::uint64_t task) {
  return InSplit(task, Split::kTrain)   ? Split::kTrain
         : InSplit(task, Split::kValid) ? Split::kValid
                                        : Split::kTest;
}

// So many candidates of one seed in a row may lie outside of the split before that is an error; how many have
// is looked at every kDrawsPerLook.
inline constexpr std::uint64_t kMaxDraws = 10'240, kDrawsPerLook = 1'024;

[[noreturn]] inline void FailSplit(Split split, std::uint64_t seed) {
  throw GenerationError("no board of split '" + std::string(SplitName(split)) + "' in " +
                        std::to_string(kMaxDraws) + " draws of seed " + std::to_string(seed) +
                        ": this configuration has too few tasks");
}

}  // namespace lamer
