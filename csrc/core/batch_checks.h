// Arguments of batch calls, checked before any board changes: std::invalid_argument names what disagrees.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/batch_config.h"

namespace lamer {

inline void CheckRange(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high) {
    throw std::invalid_argument(std::string(name) + " must be " + std::to_string(low) + " to " +
                                std::to_string(high) + ", got " + std::to_string(value));
  }
}

inline void CheckCount(const char* name, std::size_t got, std::size_t expected) {
  if (got != expected) {
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(got) + " values, expected " +
                                std::to_string(expected));
  }
}

// Every index in range and none twice: boards of one call are independent.
class IdxCheck {
 public:
  void Resize(std::size_t num_envs) { stamps_.assign(num_envs, 0); }

  void Check(EnvIdx idx) {
    if (idx.all()) return;
    if (++stamp_ == 0) {
      std::fill(stamps_.begin(), stamps_.end(), 0u);
      stamp_ = 1;
    }
    for (std::size_t i = 0; i < idx.size(); ++i) {
      if (idx[i] >= stamps_.size()) {
        throw std::invalid_argument("env_idx[" + std::to_string(i) + "] is " +
                                    std::to_string(static_cast<std::int64_t>(idx[i])) + ", but num_envs is " +
                                    std::to_string(stamps_.size()));
      }
      if (stamps_[idx[i]] == stamp_) {
        throw std::invalid_argument("env_idx names board " + std::to_string(idx[i]) +
                                    " twice, again at position " + std::to_string(i));
      }
      stamps_[idx[i]] = stamp_;
    }
  }

 private:
  std::vector<std::uint32_t> stamps_;  // of the last call that named the board
  std::uint32_t stamp_ = 0;
};

// actions: [B, k] in -1 .. num_actions - 1 up to each board's length, which is in 0 .. k.
inline void CheckActions(std::span<const std::int32_t> actions, std::size_t k,
                         std::span<const std::int32_t> lengths, std::size_t num_boards, int num_actions) {
  const auto is_bad = [limit = static_cast<std::uint32_t>(num_actions)](std::int32_t action) {
    return static_cast<std::uint32_t>(action) + 1 > limit;
  };
  if (lengths.empty()) {
    std::uint32_t bad = 0;  // not bool: so the loop is vectorized
    for (const std::int32_t action : actions) bad |= is_bad(action) ? 1 : 0;
    if (bad == 0) return;
  } else {
    CheckCount("lengths", lengths.size(), num_boards);
  }
  for (std::size_t i = 0; i < num_boards; ++i) {
    const std::int64_t length = lengths.empty() ? static_cast<std::int64_t>(k) : lengths[i];
    if (length < 0 || length > static_cast<std::int64_t>(k)) {
      throw std::invalid_argument("lengths[" + std::to_string(i) + "] is " + std::to_string(length) +
                                  ", expected 0 to " + std::to_string(k));
    }
    for (std::int64_t j = 0; j < length; ++j) {
      const std::int32_t action = actions[i * k + static_cast<std::size_t>(j)];
      if (is_bad(action)) {
        throw std::invalid_argument("actions[" + std::to_string(i) + ", " + std::to_string(j) + "] is " +
                                    std::to_string(action) + ", expected -1 to " +
                                    std::to_string(num_actions - 1));
      }
    }
  }
}

}  // namespace lamer
