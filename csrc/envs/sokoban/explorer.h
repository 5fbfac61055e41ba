// The explorer that cannot be beaten: exact search over what an agent may believe of the controls.
//
// The rule of a task is unknown and stays over its episodes. Every rule is as likely as another before the first
// move; what a word did then leaves those that would have done the same. So a belief is a set of rules, and the
// value of (state, belief, turns left, episodes left) is the chance of a success within them under the best
// choice of words, one word a turn. No agent that does not know the rule has a greater one on average over rules.
//
// With sticky moves a turn makes the last move again with chance p. A rule under which the word would have led
// elsewhere then stays possible, as likely as p to one of those under which it led there anyway. So a belief has
// layers: layer n has the rules that need n such repeats to explain what was seen, of weight p^n. Nothing else
// is hidden: a move that was blocked is blocked again, so that what may be repeated can be seen.
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
struct RuleSet {
  std::array<std::uint64_t, 2> word{};

  constexpr void Add(int rule) {
    word[static_cast<std::size_t>(rule >> 6)] |= std::uint64_t{1} << (rule & 63);
  }
  constexpr bool Empty() const { return (word[0] | word[1]) == 0; }
  constexpr int Count() const { return std::popcount(word[0]) + std::popcount(word[1]); }
  friend constexpr RuleSet operator&(RuleSet a, RuleSet b) {
    return {{a.word[0] & b.word[0], a.word[1] & b.word[1]}};
  }
  friend constexpr RuleSet operator|(RuleSet a, RuleSet b) {
    return {{a.word[0] | b.word[0], a.word[1] | b.word[1]}};
  }
  friend constexpr RuleSet operator-(RuleSet a, RuleSet b) {
    return {{a.word[0] & ~b.word[0], a.word[1] & ~b.word[1]}};
  }
  friend constexpr bool operator==(const RuleSet&, const RuleSet&) = default;
};

// Rules by the number of repeats that they need.
struct Belief {
  static constexpr std::size_t kMaxLayers = 10;

  std::array<RuleSet, kMaxLayers> layer;  // those below num_layers count
  std::size_t num_layers = 0;

  bool Empty() const { return num_layers == 0; }

  void Add(std::size_t repeats, RuleSet rules) {
    if (rules.Empty()) return;
    if (repeats >= kMaxLayers) {
      throw TooLarge("explore: a rule would need " + std::to_string(repeats) +
                     " repeated moves to explain what was seen, an exact search goes to " +
                     std::to_string(kMaxLayers - 1));
    }
    while (num_layers <= repeats) layer[num_layers++] = {};
    layer[repeats] = layer[repeats] | rules;
  }

  // Repeats that every rule needs tell nothing.
  void Shift() {
    std::size_t first = 0;
    while (first < num_layers && layer[first].Empty()) ++first;
    if (first == 0) return;
    std::copy(layer.begin() + static_cast<std::ptrdiff_t>(first),
              layer.begin() + static_cast<std::ptrdiff_t>(num_layers), layer.begin());
    num_layers -= first;
  }

  double Weight(double sticky) const {
    double total = 0.0;
    for (std::size_t n = num_layers; n-- > 0;) total = total * sticky + layer[n].Count();
    return total;
  }

  friend bool operator==(const Belief& a, const Belief& b) {
    return std::equal(a.layer.begin(), a.layer.begin() + static_cast<std::ptrdiff_t>(a.num_layers),
                      b.layer.begin(), b.layer.begin() + static_cast<std::ptrdiff_t>(b.num_layers));
  }
};

// kGiving[word][move]: the rules under which the word makes the move.
inline constexpr auto kGiving = [] {
  std::array<std::array<RuleSet, kNumWords>, kNumWords> giving{};
  for (int rule = 0; rule < kNumRules; ++rule) {
    for (std::size_t word = 0; word < kNumWords; ++word) {
      giving[word][kRules[static_cast<std::size_t>(rule)][word + 1] - 1u].Add(rule);
    }
  }
  return giving;
}();

constexpr RuleSet RulesOf(Controls controls) {
  RuleSet rules;
  for (int rule = 0; rule < NumRules(controls); ++rule) rules.Add(rule);
  return rules;
}

struct State {
  Bits boxes;
  int player;
  int repeated;  // the move that the next turn may repeat: 0 to 3, 4 (none), -1: it cannot
  friend bool operator==(const State&, const State&) = default;
};

// Of one level.
class Explorer {
 public:
  static constexpr std::size_t kMaxNodes = 4'000'000;  // of one level: about 250 MB

  // max_turns: of an episode.
  Explorer(const Level& level, Controls controls, double sticky, int max_turns)
      : floor_(level.floor), targets_(level.targets), sticky_(sticky), max_turns_(max_turns) {
    // Under others than kBroken `still` does nothing: the same plan begun a turn earlier is never worse.
    num_words_ = controls == Controls::kBroken ? kNumWords : kNumWords - 1;
    start_ = StateId({level.boxes, level.player, -1});
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
      return HashCombine(s.boxes, static_cast<std::uint64_t>(8 * s.player + s.repeated + 1));
    }
    std::size_t operator()(const Belief& b) const {
      std::uint64_t hash = 0;
      for (std::size_t n = 0; n < b.num_layers; ++n) {
        hash = HashCombine(hash ^ Mix64(b.layer[n].word[0]), b.layer[n].word[1]);
      }
      return hash;
    }
  };

  int StateId(const State& state) {
    const auto [it, fresh] = state_ids_.try_emplace(state, static_cast<int>(states_.size()));
    if (fresh) states_.push_back({state, state.boxes == targets_, {-1, -1, -1, -1, -1}});
    return it->second;
  }

  int Next(int state, std::size_t move) {
    if (states_[static_cast<std::size_t>(state)].next[move] < 0) {
      const State from = states_[static_cast<std::size_t>(state)].state;
      Bits boxes = from.boxes, player = Bit(from.player);
      const bool moved = move < 4 && Apply(floor_, static_cast<int>(move), boxes, player);
      const int repeated = sticky_ == 0.0 ? -1 : moved ? static_cast<int>(move) : 4;
      states_[static_cast<std::size_t>(state)].next[move] = StateId({boxes, LowestCell(player), repeated});
    }
    return states_[static_cast<std::size_t>(state)].next[move];
  }

  double Value(int state, const Belief& belief, int turns, int episodes) {
    const auto of_belief = static_cast<std::uint64_t>(
        belief_ids_.try_emplace(belief, static_cast<int>(belief_ids_.size())).first->second);
    // Beliefs are not many more than nodes, states not many times as many: 23, 25, 8 and 8 bits.
    const std::uint64_t key = of_belief << 41 | static_cast<std::uint64_t>(state) << 16 |
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
    const auto place = [&](int to) {
      const auto at =
          static_cast<std::size_t>(std::find(seen.begin(), seen.begin() + num_seen, to) - seen.begin());
      if (at == num_seen) {
        seen[at] = to;
        rules[num_seen++].num_layers = 0;
      }
      return at;
    };
    for (std::size_t move = 0; move < kNumWords; ++move) {
      const RuleSet& giving = kGiving[static_cast<std::size_t>(word)][move];
      for (std::size_t n = 0; n < belief.num_layers; ++n) {
        const RuleSet some = belief.layer[n] & giving;
        if (!some.Empty()) rules[place(Next(state, move))].Add(n, some);
      }
    }
    // The last move again may be one of these states, or one more.
    const int repeated = states_[static_cast<std::size_t>(state)].state.repeated;
    std::size_t again = kNumWords;
    if (repeated >= 0) {
      again = place(Next(state, static_cast<std::size_t>(repeated)));
      const Belief leading = rules[again];
      for (std::size_t n = 0; n < belief.num_layers; ++n) {
        const RuleSet others = n < leading.num_layers ? belief.layer[n] - leading.layer[n] : belief.layer[n];
        rules[again].Add(n + 1, others);
      }
    }
    double total = 0.0;
    for (std::size_t i = 0; i < num_seen; ++i) {
      // Of these rules, those that lead here only if nothing is repeated have to share with `again`.
      const double weight =
          rules[i].Weight(sticky_) * (again < kNumWords && i != again ? 1.0 - sticky_ : 1.0);
      rules[i].Shift();
      double value = 0.0;
      if (states_[static_cast<std::size_t>(seen[i])].won) {
        value = 1.0;
      } else if (turns > 1) {
        value = Value(seen[i], rules[i], turns - 1, episodes);
      } else if (episodes > 1) {
        value = Value(start_, rules[i], max_turns_, episodes - 1);
      }
      total += weight * value;
    }
    return total / belief.Weight(sticky_);
  }

  Bits floor_, targets_;
  double sticky_;
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
  void With(const Level& level, Controls controls, double sticky, int max_turns, Fn&& fn) {
    const std::lock_guard lock(mutex_);
    // Of one environment: its controls and stickiness are those of the first call.
    std::uint64_t key = static_cast<std::uint64_t>(max_turns);
    for (Bits b : {level.floor, level.targets, level.boxes, Bit(level.player)}) key = HashCombine(key, b);
    auto it = explorers_.find(key);
    if (it == explorers_.end()) {
      if (num_nodes_ > kMaxKept) {
        explorers_.clear();
        num_nodes_ = 0;
      }
      it = explorers_.emplace(key, Explorer(level, controls, sticky, max_turns)).first;
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
