// Board: one live game of ALFWorld, as TextWorld's PddlEnv plays it: facts as bits, and what was said last.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "core/rng.h"
#include "envs/alfworld/tables.h"

namespace lamer::alfworld {

enum class Played : std::uint8_t { kNothing, kDone, kUnclear };

class Board {
 public:
  bool done = true, success = false;  // a board without a game is done

  const Tables* game() const { return game_.get(); }
  std::int32_t said() const { return said_; }
  const Words& facts() const { return facts_; }

  void Start(std::shared_ptr<const Tables> game) {
    game_ = std::move(game);
    Restart();
  }

  void Restart() {
    if (!game_) return;
    facts_ = game_->initial();
    said_ = game_->intro();
    done = success = false;
  }

  // kUnclear: the command may mean two things that differ, and nothing has been done.
  Played Play(std::string_view command) {
    const std::int32_t number = game_->Command(command);
    std::int32_t chosen = -1;
    if (number >= 0) {
      for (const std::int32_t op : game_->ops(number)) {
        if (!CanDo(op)) continue;
        if (chosen >= 0) return Played::kUnclear;
        chosen = op;
      }
    }
    if (chosen < 0) {
      said_ = game_->nothing();
      return Played::kNothing;
    }
    Apply(chosen);
    said_ = game_->said(chosen);
    done = success = Holds(game_->goal());
    return Played::kDone;
  }

  // fn(command), in the order of their texts; none on a finished board.
  template <typename Fn>
  void ForCommands(Words& scratch, Fn&& fn) const {
    if (done) return;
    scratch.assign((game_->commands().size() + 63) / 64, 0);
    Mark(0, scratch);
    const auto num_keys = static_cast<std::size_t>(game_->num_keys());
    for (std::size_t w = 0; w * 64 < num_keys; ++w) {
      std::uint64_t word = facts_[w];
      if (num_keys - w * 64 < 64) word &= (std::uint64_t{1} << (num_keys - w * 64)) - 1;
      for (; word != 0; word &= word - 1)
        Mark(1 + w * 64 + static_cast<std::size_t>(std::countr_zero(word)), scratch);
    }
    for (std::size_t w = 0; w < scratch.size(); ++w) {
      for (std::uint64_t word = scratch[w]; word != 0; word &= word - 1) {
        fn(static_cast<std::int32_t>(w * 64) + std::countr_zero(word));
      }
    }
  }

  // Appends what was said last.
  void Write(std::string& out) const {
    if (game_) Write(said_, out);
  }

  // Hash of the game and of every fact: the same for the same state, however it was reached.
  std::int64_t Anchor() const {
    std::uint64_t hash = game_ ? game_->digest() : 0;
    for (const std::uint64_t word : facts_) hash = HashCombine(hash, word);
    return static_cast<std::int64_t>(hash);
  }

  // A record: digest, what was said, flags, facts. The rest of `size` bytes is 0.
  static std::size_t RecordSize(const Tables* game) {
    return sizeof(Head) + (game != nullptr ? game->initial().size() * sizeof(std::uint64_t) : 0);
  }

  void Save(char* out, std::size_t size) const {
    std::memset(out, 0, size);
    const Head head{game_ ? game_->digest() : 0, said_, static_cast<std::uint32_t>(done + 2 * success)};
    std::memcpy(out, &head, sizeof head);
    if (!facts_.empty()) std::memcpy(out + sizeof head, facts_.data(), facts_.size() * sizeof facts_[0]);
  }

  // Throws std::invalid_argument where Load would give no board of this game.
  static void Check(const char* record, const Tables& game) {
    Head head;
    std::memcpy(&head, record, sizeof head);
    if (head.digest != game.digest()) {
      throw std::invalid_argument("snapshot: a board plays game " + std::to_string(head.digest) +
                                  ", expected game " + std::to_string(game.digest()));
    }
    if (head.said < 0 || static_cast<std::size_t>(head.said) >= game.num_programs()) {
      throw std::invalid_argument("snapshot: a board was told text " + std::to_string(head.said) +
                                  ", its game has " + std::to_string(game.num_programs()));
    }
    if (head.flags > 3 || head.flags == 2) {
      throw std::invalid_argument("snapshot: a board has flags " + std::to_string(head.flags) +
                                  ", expected 0, 1 or 3");
    }
    if (const int used = game.num_facts() % 64; used != 0) {
      std::uint64_t last;
      std::memcpy(&last, record + RecordSize(&game) - sizeof last, sizeof last);
      if (last >> used != 0)
        throw std::invalid_argument("snapshot: a board has facts that its game does not have");
    }
  }

  void Load(const char* record, std::shared_ptr<const Tables> game) {
    Start(std::move(game));
    Head head;
    std::memcpy(&head, record, sizeof head);
    said_ = head.said;
    done = head.flags % 2 != 0, success = head.flags >= 2;
    if (!facts_.empty()) std::memcpy(facts_.data(), record + sizeof head, facts_.size() * sizeof facts_[0]);
  }

 private:
  struct Head {
    std::uint64_t digest;
    std::int32_t said;
    std::uint32_t flags;
  };

  bool Fact(std::int32_t fact) const {
    return (facts_[static_cast<std::size_t>(fact) / 64] >> (fact % 64) & 1) != 0;
  }

  bool Holds(std::int32_t node) const {
    if (node < 0) return true;
    const bool every = game_->every(node);
    for (const std::int32_t part : game_->node(node)) {
      const bool holds = part >= 0 ? Fact(part / 2) != (part % 2 != 0) : Holds(-1 - part);
      if (holds != every) return holds;
    }
    return every;
  }

  bool CanDo(std::int32_t op) const {
    for (const std::int32_t node : game_->cases(op)) {
      if (Holds(node)) return true;
    }
    return false;
  }

  // Conditions of changes are about the state before all of them.
  void Apply(std::int32_t op) {
    const auto changes = game_->changes(op);
    Words after = {};
    bool conditional = false;
    for (std::size_t i = 0; i < changes.size(); i += 2) conditional |= changes[i] >= 0;
    if (conditional) after = facts_;
    Words& target = conditional ? after : facts_;
    for (std::size_t i = 0; i < changes.size(); i += 2) {
      if (!Holds(changes[i])) continue;
      const auto fact = static_cast<std::size_t>(changes[i + 1]) / 2;
      const std::uint64_t bit = std::uint64_t{1} << (fact % 64);
      if (changes[i + 1] % 2 != 0) {
        target[fact / 64] |= bit;
      } else {
        target[fact / 64] &= ~bit;
      }
    }
    if (conditional) facts_ = std::move(after);
  }

  void Mark(std::size_t bucket, Words& marked) const {
    const auto pairs = game_->bucket(bucket);
    for (std::size_t i = 0; i < pairs.size(); i += 2) {
      const std::uint64_t holds = Holds(pairs[i + 1]);
      marked[static_cast<std::size_t>(pairs[i]) / 64] |= holds << (pairs[i] % 64);
    }
  }

  void Write(std::int32_t program, std::string& out) const {
    const std::int32_t* code = game_->program(program);
    for (std::int32_t kind = *code++; kind != kEnd; kind = *code++) {
      if (kind == kText) {
        out.append(game_->String(*code++));
      } else if (kind == kCases) {
        const std::int32_t count = *code++;
        std::int32_t k = 0;
        while (!Holds(code[2 * k])) ++k;
        Write(code[2 * k + 1], out);
        code += 2 * count;
      } else {
        code = WriteItems(code, out);
      }
    }
  }

  const std::int32_t* WriteItems(const std::int32_t* code, std::string& out) const {
    const std::int32_t count = code[0], empty = code[1], separator = code[2], last_separator = code[3];
    code += 4;
    std::int32_t waiting = -1;  // found, but not written: whether it is the last is not known yet
    bool first = true;
    for (std::int32_t k = 0; k < count; ++k) {
      if (!Holds(code[2 * k])) continue;
      if (waiting >= 0) {
        if (!first) Write(separator, out);
        Write(waiting, out);
        first = false;
      }
      waiting = code[2 * k + 1];
    }
    if (waiting < 0) {
      Write(empty, out);
    } else {
      if (!first) Write(last_separator, out);
      Write(waiting, out);
    }
    return code + 2 * count;
  }

  std::shared_ptr<const Tables> game_;
  Words facts_;
  std::int32_t said_ = 0;
};

}  // namespace lamer::alfworld
