// The explorer that cannot be beaten: exact search over what an agent may believe of the controls.
//
// The rule of a task is unknown and stays over its episodes. Every rule is as likely as another before the first
// move; what a word did then leaves those that would have done the same. So a belief is a set of rules, and the
// value of (state, belief, turns left, episodes left) is the chance of a success within them under the best
// choice of words, one word a turn. No agent that does not know the rule has a greater one on average over rules.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <mutex>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/rng.h"
#include "core/too_large.h"
#include "envs/sokoban/bits.h"
#include "envs/sokoban/controls.h"
#include "envs/sokoban/search.h"

namespace lamer::sokoban {

// A set of rules, one bit each.
struct Belief {
  std::array<std::uint64_t, 2> word{};

  constexpr void Add(int rule) {
    word[static_cast<std::size_t>(rule >> 6)] |= std::uint64_t{1} << (rule & 63);
  }
  constexpr int Count() const { return std::popcount(word[0]) + std::popcount(word[1]); }
  friend constexpr Belief operator&(Belief a, Belief b) {
    return {{a.word[0] & b.word[0], a.word[1] & b.word[1]}};
  }
  friend constexpr Belief operator|(Belief a, Belief b) {
    return {{a.word[0] | b.word[0], a.word[1] | b.word[1]}};
  }
  friend constexpr bool operator==(const Belief&, const Belief&) = default;
};

// kGiving[word][move]: the rules under which the word makes the move.
inline constexpr auto kGiving = [] {
  std::array<std::array<Belief, kNumWords>, kNumWords> giving{};
  for (int rule = 0; rule < kNumRules; ++rule) {
    for (std::size_t word = 0; word < kNumWords; ++word) {
      giving[word][kRules[static_cast<std::size_t>(rule)][word + 1] - 1u].Add(rule);
    }
  }
  return giving;
}();

constexpr Belief RulesOf(Controls controls) {
  Belief rules;
  for (int rule = 0; rule < NumRules(controls); ++rule) rules.Add(rule);
  return rules;
}

struct State {
  Bits boxes;
  int player;
  friend bool operator==(const State&, const State&) = default;
};

inline State After(const State& state, int move, Bits floor) {
  Bits boxes = state.boxes, player = Bit(state.player);
  if (move < 4) Apply(floor, move, boxes, player);
  return {boxes, LowestCell(player)};
}

// Of one level.
class Explorer {
 public:
  static constexpr std::size_t kMaxNodes = 4'000'000;  // of one level: about 250 MB

  // max_turns: of an episode.
  Explorer(const Level& level, Controls controls, int max_turns)
      : floor_(level.floor), targets_(level.targets), max_turns_(max_turns) {
    // Under kPermuted `still` does nothing: the same plan begun a turn earlier is never worse.
    num_words_ = controls == Controls::kBroken ? kNumWords : kNumWords - 1;
    start_ = StateId({level.boxes, level.player});
  }

  std::size_t num_nodes() const { return values_.size(); }

  // out: [kNumWords], the value of each word; 0 of one that is never better than the others.
  void Values(const State& state, const Belief& belief, int turns, int episodes, std::span<double> out) {
    const int id = StateId(state);
    for (int word = 0; word < num_words_; ++word) {
      out[static_cast<std::size_t>(word)] = ValueOf(word, id, belief, turns, episodes);
    }
  }

 private:
  struct Known {
    State state;
    bool won;
    std::array<int, kNumWords> next;  // by move; -1: not yet looked at
  };
  struct Hash {
    std::size_t operator()(const State& s) const {
      return HashCombine(s.boxes, static_cast<std::uint64_t>(s.player));
    }
    std::size_t operator()(const Belief& b) const { return HashCombine(Mix64(b.word[0]), b.word[1]); }
  };

  int StateId(const State& state) {
    const auto [it, fresh] = state_ids_.try_emplace(state, static_cast<int>(states_.size()));
    if (fresh) states_.push_back({state, state.boxes == targets_, {-1, -1, -1, -1, -1}});
    return it->second;
  }

  int Next(int state, std::size_t move) {
    if (states_[static_cast<std::size_t>(state)].next[move] < 0) {
      const int id =
          StateId(After(states_[static_cast<std::size_t>(state)].state, static_cast<int>(move), floor_));
      states_[static_cast<std::size_t>(state)].next[move] = id;
    }
    return states_[static_cast<std::size_t>(state)].next[move];
  }

  double Value(int state, const Belief& belief, int turns, int episodes) {
    const auto of_belief = static_cast<std::uint64_t>(
        belief_ids_.try_emplace(belief, static_cast<int>(belief_ids_.size())).first->second);
    const std::uint64_t key = of_belief << 32 | static_cast<std::uint64_t>(state) << 16 |
                              static_cast<std::uint64_t>(turns) << 8 | static_cast<std::uint64_t>(episodes);
    if (const auto it = values_.find(key); it != values_.end()) return it->second;
    double best = 0.0;
    for (int word = 0; word < num_words_ && best < 1.0; ++word) {
      best = std::max(best, ValueOf(word, state, belief, turns, episodes));
    }
    if (values_.size() >= kMaxNodes) {
      throw TooLarge("explore: more than " + std::to_string(kMaxNodes) +
                     " beliefs and states, an exact search is for small boards and few turns");
    }
    values_.emplace(key, best);
    return best;
  }

  double ValueOf(int word, int state, const Belief& belief, int turns, int episodes) {
    // What can be seen after the word, and the rules that lead there: several moves may lead to one state.
    std::array<int, kNumWords> seen;
    std::array<Belief, kNumWords> rules;
    std::size_t num_seen = 0;
    for (std::size_t move = 0; move < kNumWords; ++move) {
      const Belief giving = belief & kGiving[static_cast<std::size_t>(word)][move];
      if (giving.Count() == 0) continue;
      const int to = Next(state, move);
      const auto at =
          static_cast<std::size_t>(std::find(seen.begin(), seen.begin() + num_seen, to) - seen.begin());
      if (at == num_seen) {
        seen[at] = to;
        rules[num_seen++] = {};
      }
      rules[at] = rules[at] | giving;
    }
    double total = 0.0;
    for (std::size_t i = 0; i < num_seen; ++i) {
      double value = 0.0;
      if (states_[static_cast<std::size_t>(seen[i])].won) {
        value = 1.0;
      } else if (turns > 1) {
        value = Value(seen[i], rules[i], turns - 1, episodes);
      } else if (episodes > 1) {
        value = Value(start_, rules[i], max_turns_, episodes - 1);
      }
      total += rules[i].Count() * value;
    }
    return total / belief.Count();
  }

  Bits floor_, targets_;
  int max_turns_, num_words_, start_;
  std::vector<Known> states_;
  std::unordered_map<State, int, Hash> state_ids_;
  std::unordered_map<Belief, int, Hash> belief_ids_;
  std::unordered_map<std::uint64_t, double> values_;
};

// Explorers of the levels asked for lately, up to kMaxKept nodes in all of them.
class ExplorerCache {
 public:
  template <typename Fn>
  void With(const Level& level, Controls controls, int max_turns, Fn&& fn) {
    const std::lock_guard lock(mutex_);
    std::uint64_t key =
        HashCombine(static_cast<std::uint64_t>(controls), static_cast<std::uint64_t>(max_turns));
    for (Bits b : {level.floor, level.targets, level.boxes, Bit(level.player)}) key = HashCombine(key, b);
    auto it = explorers_.find(key);
    if (it == explorers_.end()) {
      if (num_nodes_ > kMaxKept) {
        explorers_.clear();
        num_nodes_ = 0;
      }
      it = explorers_.emplace(key, Explorer(level, controls, max_turns)).first;
    }
    num_nodes_ -= it->second.num_nodes();
    try {
      fn(it->second);
    } catch (...) {  // too large to keep
      explorers_.erase(it);
      throw;
    }
    num_nodes_ += it->second.num_nodes();
  }

 private:
  static constexpr std::size_t kMaxKept = 1'000'000;

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Explorer> explorers_;
  std::size_t num_nodes_ = 0;
};

}  // namespace lamer::sokoban
