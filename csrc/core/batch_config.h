// What is not the rules of a game: how a turn of several actions is played, and which boards a call names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/rng.h"
#include "core/split.h"

namespace lamer {

struct StepOut {
  float reward;
  bool done, success, dead;
};

enum class Autoreset : std::uint8_t {
  kNone,  // a finished board ignores its actions and reports done again
  kSame,  // a board that finishes is replaced at once; `done` tells of the old one
  kNext,  // the step after the finishing one replaces the board and ignores its actions
};

inline Autoreset ParseAutoreset(std::string_view name) {
  if (name == "none") return Autoreset::kNone;
  if (name == "same") return Autoreset::kSame;
  if (name == "next") return Autoreset::kNext;
  throw std::invalid_argument("autoreset must be 'none', 'same' or 'next', got '" + std::string(name) + "'");
}

struct BatchConfig {
  int num_threads = 1;
  Split split = Split::kNone;
  bool last_reward = false;  // a turn's reward is the last action's (the official code), not the sum
  bool stop_at_done = true;  // false: a turn's actions go on after the board is done (the official code)
  Autoreset autoreset = Autoreset::kNone;

  std::uint64_t Fingerprint() const {
    std::uint64_t hash = static_cast<std::uint64_t>(split);
    for (std::uint64_t value :
         {std::uint64_t{last_reward}, std::uint64_t{stop_at_done}, static_cast<std::uint64_t>(autoreset)}) {
      hash = HashCombine(hash, value);
    }
    return hash;
  }
};

// The boards of one call: all of them, or those named.
class EnvIdx {
 public:
  explicit EnvIdx(std::size_t num_envs) : size_(num_envs) {}
  explicit EnvIdx(std::span<const std::int64_t> idx) : data_(idx.data()), size_(idx.size()), all_(false) {}

  std::size_t size() const { return size_; }
  bool all() const { return all_; }
  std::size_t operator[](std::size_t i) const { return all_ ? i : static_cast<std::size_t>(data_[i]); }

 private:
  const std::int64_t* data_ = nullptr;
  std::size_t size_;
  bool all_ = true;
};

// Results of one turn, B boards of k actions; rewards_per_action is 0 where no action was executed.
struct TurnOut {
  float* rewards_per_action;    // [B, k]
  float* rewards;               // [B]
  std::int32_t* executed;       // [B]
  bool *done, *success, *dead;  // [B]
};

}  // namespace lamer
