// Game: what the rules of one environment provide, so that a batch of its boards can be played.
//
// A Game holds the rules of one configuration; it never changes and is shared by all threads. Its Board is the
// state of one live board: a value that may be copied, finished (`done`) when it is new.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "core/batch_config.h"
#include "core/parse.h"
#include "core/split.h"
#include "core/text.h"

namespace lamer {

template <typename Env>
concept Game =
    std::constructible_from<Env, const typename Env::Config&> && std::copyable<typename Env::Board> &&
    requires(const Env& env, const typename Env::Board& board, typename Env::Board& live, std::uint64_t seed,
             Split split, std::int32_t action, Style style, std::string_view reply,
             std::span<std::int32_t> actions, bool* legal, char* out, const char* record) {
      // Of a board: the episode is over; it was won; it can no longer be won.
      { board.done } -> std::convertible_to<bool>;
      { board.success } -> std::convertible_to<bool>;
      { board.dead } -> std::convertible_to<bool>;

      // Hash of the game's name and of every configured value.
      { env.Fingerprint() } -> std::same_as<std::uint64_t>;
      // Actions are 0 .. num_actions - 1; -1 stands for a reply that could not be read.
      { env.num_actions() } -> std::same_as<int>;

      // A function of seed, split and configuration. GenerationError when there is no such board.
      { env.Generate(live, seed, split) } -> std::same_as<void>;
      // Back to the start of the board.
      { env.Restart(live) } -> std::same_as<void>;
      // Sets the board's flags. Called on a finished board only when stop_at_done is off.
      { env.Step(live, action) } -> std::same_as<StepOut>;
      // Fills `actions` from a reply; what strict refuses, lenient reads as far as it can.
      { env.Parse(reply, true, actions) } -> std::same_as<ParseOut>;

      // Bytes of every text of a style; 0 where boards differ, then the board's own.
      { env.TextSize(style) } -> std::same_as<std::size_t>;
      { env.TextSize(board, style) } -> std::same_as<std::size_t>;
      // Writes exactly TextSize bytes and returns their end.
      { env.Render(board, style, out) } -> std::same_as<char*>;

      // Hash of all that can be seen.
      { env.Anchor(board) } -> std::same_as<std::int64_t>;
      // Id of the start, the same for its images under the symmetries of the board.
      { env.Task(board) } -> std::same_as<std::uint64_t>;
      // How many tasks a split has, where that can be known.
      { env.CountTasks(split) } -> std::same_as<std::optional<std::uint64_t>>;
      // [num_actions]; all false on a finished board.
      { env.LegalActions(board, legal) } -> std::same_as<void>;
      // -1 when there is none. What it computes may stay with the board.
      { env.ExpertAction(live) } -> std::same_as<std::int32_t>;

      // A snapshot: kRecordSize bytes a board. Check throws std::invalid_argument where Load would give no
      // board that can be.
      { Env::kRecordSize } -> std::convertible_to<std::size_t>;
      { env.Save(board, out) } -> std::same_as<void>;
      { env.Check(record) } -> std::same_as<void>;
      { env.Load(live, record) } -> std::same_as<void>;
    };

// A game that generates many boards at once faster than one after another; board i is that of seeds[i].
template <typename Env>
concept GeneratesMany = Game<Env> && requires(const Env& env, std::span<typename Env::Board> boards,
                                              std::span<const std::uint64_t> seeds, Split split) {
  { env.Generate(boards, seeds, split) } -> std::same_as<void>;
};

}  // namespace lamer
