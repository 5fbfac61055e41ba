// Controls: which word moves where. A rule belongs to a task and stays over all episodes on it; nothing that is
// seen before the first move tells it.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/rng.h"
#include "core/split.h"

namespace lamer::sokoban {

enum class Controls : std::uint8_t {
  kPlain,     // every word does what it says
  kPermuted,  // the four words of direction are exchanged: 24 rules
  kBroken,    // all five are: one word may do nothing, and `still` then moves: 120 rules
};

inline Controls ParseControls(std::string_view name) {
  if (name == "plain") return Controls::kPlain;
  if (name == "permuted") return Controls::kPermuted;
  if (name == "broken") return Controls::kBroken;
  throw std::invalid_argument("controls must be 'plain', 'permuted' or 'broken', got '" + std::string(name) +
                              "'");
}

inline constexpr int kNumWords = 5;  // up, down, left, right, still
inline constexpr int kNumRules = 120, kNumPermuted = 24;

constexpr int NumRules(Controls controls) {
  constexpr int kNum[] = {1, kNumPermuted, kNumRules};
  return kNum[static_cast<int>(controls)];
}

// kRules[rule][word + 1] is the move (0 .. 4) plus 1; word -1 stays 0. Rule 0 is the plain one, rules below
// kNumPermuted leave `still` alone. In blocks of 24 by what `still` does (4, then 0 to 3), each in the
// lexicographic order of the others.
using Rule = std::array<std::uint8_t, 8>;  // 8, so that a rule is found by a shift
inline constexpr std::array<Rule, kNumRules> kRules = [] {
  std::array<Rule, kNumRules> rules{};
  std::size_t at = 0;
  for (int block = 0; block < kNumWords; ++block) {
    const int still = block == 0 ? 4 : block - 1;
    for (int code = 0; code < kNumWords * kNumWords * kNumWords * kNumWords; ++code) {
      const int move[kNumWords] = {code / 125, code / 25 % 5, code / 5 % 5, code % 5, still};
      unsigned seen = 0;
      for (int m : move) seen |= 1u << m;
      if (seen != 0x1f) continue;
      for (std::size_t word = 0; word < kNumWords; ++word) {
        rules[at][word + 1] = static_cast<std::uint8_t>(move[word] + 1);
      }
      ++at;
    }
  }
  return rules;
}();

// "\nup: left", or "\nup: nothing" for went = 0: what a word did. Words and moves count from 1.
inline constexpr std::string_view kWords[] = {"nothing", "up", "down", "left", "right", "still"};

constexpr std::size_t LineSize(std::uint8_t said, std::uint8_t went) {
  return 3 + kWords[said].size() + kWords[went].size();
}

constexpr char* RenderLine(std::uint8_t said, std::uint8_t went, char* out) {
  *out++ = '\n';
  for (char c : kWords[said]) *out++ = c;
  *out++ = ':';
  *out++ = ' ';
  for (char c : kWords[went]) *out++ = c;
  return out;
}

// The word that a rule gives a move.
constexpr int WordOf(std::uint8_t rule, int move) {
  for (int word = 0; word < kNumWords; ++word) {
    if (kRules[rule][static_cast<std::size_t>(word + 1)] == move + 1) return word;
  }
  return -1;
}

// Rules held out: of every six, which share where the first word leads, four are of train and one each of
// valid and test.
constexpr bool RuleInSplit(int rule, Split split) {
  constexpr Split kSplits[] = {Split::kTrain, Split::kTrain, Split::kTrain,
                               Split::kTrain, Split::kValid, Split::kTest};
  return split == Split::kNone || kSplits[rule % 6] == split;
}

// Uniform among the rules of the controls, or of those in one split of them.
inline std::uint8_t DrawRule(Controls controls, Split held_out, std::uint64_t seed, std::uint64_t draw) {
  if (controls == Controls::kPlain) return 0;
  constexpr std::uint64_t kPurpose = 0x72756c65ULL;  // "rule"
  Rng rng(seed, kPurpose, draw);
  for (;;) {
    const std::uint32_t rule = rng.Below(static_cast<std::uint32_t>(NumRules(controls)));
    if (RuleInSplit(static_cast<int>(rule), held_out)) return static_cast<std::uint8_t>(rule);
  }
}

}  // namespace lamer::sokoban
