// BatchEnv<Env>: N live boards of one environment, stepped together into caller-owned buffers.
//
// An Env is the immutable rules of one configuration, shared by all threads. It provides
//   struct Config                             with Validate(): std::invalid_argument names the two values
//   that disagree struct Board                              the state of one live board, a copyable value
//   with the flags
//                                             `done`, `success` and `dead`; a new one is done
//   explicit Env(const Config&)               calls Validate()
//   uint64 Fingerprint() const                hash of the environment's name and of every configured value
//   int num_actions() const                   valid actions are 0 .. num_actions - 1, and -1: unparsable
//   void Generate(Board&, seed, draw) const   candidate `draw` of a seed: a function of (seed, draw,
//   configuration);
//                                             GenerationError when there is none. draw > 0 only under a split
//   void Restart(Board&) const                back to the start of the board
//   StepOut Step(Board&, action) const        one action in -1 .. num_actions - 1; sets the board's flags.
//                                             Called on a finished board only when stop_at_done is off
//   size_t TextSize(Style) const              bytes of every text of this style, 0 when boards differ
//   size_t TextSize(const Board&, Style) const
//   char* Render(const Board&, Style, char* out) const           writes exactly TextSize bytes, returns their
//   end int64 Anchor(const Board&) const          hash of the full visible state uint64 Task(const Board&)
//   const           canonical id of the board's start over the 8 symmetries void LegalActions(const Board&,
//   bool* out) const             [num_actions], all false on a finished board int32 ExpertAction(Board&)
//   const          -1 when there is none; may keep what it computed with the board ParseOut Parse(string_view
//   reply, bool strict, span<int32> out) const static constexpr size_t kRecordSize       bytes of one board
//   in a snapshot void Save(const Board&, char* out) const void Check(const char* record) const
//   std::invalid_argument unless Load of the record gives a sound board void Load(Board&, const char* record)
//   const optional<uint64> CountTasks(Split) const  the exact number of tasks, when it can be known
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/parse.h"
#include "core/rng.h"
#include "core/snapshot.h"
#include "core/split.h"
#include "core/text.h"
#include "core/thread_pool.h"

namespace lamer {

struct StepOut {
  float reward;
  bool done, success, dead;
};

// No board of the wanted kind within the stated number of tries.
class GenerationError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
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

// What is not the rules of a game: how boards are drawn and how a turn of several actions is played.
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

// The first draw of `seed` whose task lies in the split.
template <typename Env>
void DrawBoard(const Env& env, typename Env::Board& board, std::uint64_t seed, Split split) {
  constexpr std::uint64_t kMaxDraws = 10'000;
  for (std::uint64_t draw = 0; draw < kMaxDraws; ++draw) {
    env.Generate(board, seed, draw);
    if (split == Split::kNone || InSplit(env.Task(board), split)) return;
  }
  throw GenerationError("no board of split '" + std::string(SplitName(split)) + "' in " +
                        std::to_string(kMaxDraws) + " draws of seed " + std::to_string(seed) +
                        ": this configuration has too few tasks");
}

template <typename Env>
class BatchEnv {
 public:
  using Board = typename Env::Board;

  // Below this many boards a call runs on the caller's thread alone.
  static constexpr std::size_t kMinStepChunk = 1024;
  static constexpr std::size_t kMinResetChunk = 8;

  BatchEnv(std::int64_t num_envs, const typename Env::Config& config, const BatchConfig& batch)
      : env_(config), batch_(batch), pool_(batch.num_threads) {
    if (num_envs < 1) throw std::invalid_argument("num_envs must be >= 1, got " + std::to_string(num_envs));
    if (batch.num_threads < 1) {
      throw std::invalid_argument("num_threads must be >= 1, got " + std::to_string(batch.num_threads));
    }
    boards_.resize(static_cast<std::size_t>(num_envs));
    seeds_.resize(boards_.size());
    stamps_.resize(boards_.size());
  }

  std::size_t num_envs() const { return boards_.size(); }
  const Env& env() const { return env_; }
  const BatchConfig& batch() const { return batch_; }
  const Board& board(std::size_t i) const { return boards_[i]; }
  std::uint64_t Fingerprint() const { return HashCombine(env_.Fingerprint(), batch_.Fingerprint()); }
  // Bytes a live board occupies in this object.
  static constexpr std::size_t bytes_per_board() {
    return sizeof(Board) + sizeof(std::uint64_t) + sizeof(std::uint32_t);
  }

  // New boards; one seed per board of idx. If one cannot be generated, nothing changes.
  void Reset(std::span<const std::uint64_t> seeds, EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("seeds", seeds.size(), idx.size());
    std::vector<Board> drawn(idx.size());
    pool_.For(idx.size(), kMinResetChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) DrawBoard(env_, drawn[i], seeds[i], batch_.split);
    });
    for (std::size_t i = 0; i < idx.size(); ++i) {
      boards_[idx[i]] = std::move(drawn[i]);
      seeds_[idx[i]] = seeds[i];
    }
  }

  void Restart(EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    ForBoards(idx, [&](std::size_t, Board& board) { env_.Restart(board); });
  }

  // actions: [B, k]; lengths: [B] in 0 .. k, or empty: all k. A finished board executes nothing.
  void Step(std::span<const std::int32_t> actions, std::size_t k, std::span<const std::int32_t> lengths,
            EnvIdx idx, const TurnOut& out) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("actions", actions.size(), idx.size() * k);
    CheckActions(actions, k, lengths, idx.size());
    const bool single = k == 1 && lengths.empty() && batch_.autoreset == Autoreset::kNone;
    pool_.For(idx.size(), kMinStepChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; single && i < end; ++i) PlayAction(boards_[idx[i]], actions[i], i, out);
      for (std::size_t i = begin; !single && i < end; ++i) {
        const std::size_t length = lengths.empty() ? k : static_cast<std::size_t>(lengths[i]);
        PlayTurn(idx[i], {actions.data() + i * k, length}, k, i, out);
      }
    });
  }

  // Bytes of all texts of idx as the boards stand.
  std::size_t TextBytes(Style style, EnvIdx idx) {
    if (const std::size_t fixed = env_.TextSize(style); fixed != 0) return idx.size() * fixed;
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    std::size_t total = 0;
    for (std::size_t i = 0; i < idx.size(); ++i) total += env_.TextSize(boards_[idx[i]], style);
    return total;
  }

  // Text i goes to arena[offsets[i] .. offsets[i + 1]); offsets is [B + 1]. An arena that is too small is not
  // touched.
  void Render(Style style, EnvIdx idx, std::span<std::int64_t> offsets, std::span<char> arena) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("offsets", offsets.size(), idx.size() + 1);
    const std::size_t fixed = env_.TextSize(style);
    offsets[0] = 0;
    for (std::size_t i = 0; i < idx.size(); ++i) {
      const std::size_t size = fixed != 0 ? fixed : env_.TextSize(boards_[idx[i]], style);
      offsets[i + 1] = offsets[i] + static_cast<std::int64_t>(size);
    }
    if (const auto total = static_cast<std::size_t>(offsets[idx.size()]); arena.size() < total) {
      throw std::invalid_argument("arena has " + std::to_string(arena.size()) + " bytes, the texts need " +
                                  std::to_string(total));
    }
    ForBoards(idx, [&](std::size_t i, const Board& board) {
      env_.Render(board, style, arena.data() + offsets[i]);
    });
  }

  // fn(i, board) for board idx[i], in parallel chunks of at least min_chunk; for what one environment has of
  // its own.
  template <typename Fn>
  void Map(EnvIdx idx, std::size_t min_chunk, Fn&& fn) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    pool_.For(idx.size(), min_chunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) fn(i, boards_[idx[i]]);
    });
  }

  void Anchors(EnvIdx idx, std::span<std::int64_t> out) {
    Fill(idx, "anchors", out, [&](const Board& board) { return env_.Anchor(board); });
  }
  void Tasks(EnvIdx idx, std::span<std::uint64_t> out) {
    Fill(idx, "tasks", out, [&](const Board& board) { return env_.Task(board); });
  }
  void ExpertActions(EnvIdx idx, std::span<std::int32_t> out) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("actions", out.size(), idx.size());
    pool_.For(idx.size(), kMinResetChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) out[i] = env_.ExpertAction(boards_[idx[i]]);
    });
  }
  // out: [B, num_actions].
  void LegalActions(EnvIdx idx, std::span<bool> out) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    const std::size_t num_actions = static_cast<std::size_t>(env_.num_actions());
    CheckCount("mask", out.size(), idx.size() * num_actions);
    ForBoards(idx, [&](std::size_t i, const Board& board) {
      env_.LegalActions(board, out.data() + i * num_actions);
    });
  }
  // Flags of the boards as they stand; a board never reset is done.
  void Flags(EnvIdx idx, bool* done, bool* success, bool* dead) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    ForBoards(idx, [&](std::size_t i, const Board& board) {
      done[i] = board.done;
      success[i] = board.success;
      dead[i] = board.dead;
    });
  }

  static constexpr std::size_t kRecordSize = sizeof(std::uint64_t) + Env::kRecordSize;
  static std::size_t SnapshotSize(std::size_t num_boards) {
    return sizeof(SnapshotHeader) + num_boards * kRecordSize;
  }

  // out: SnapshotSize(idx.size()) bytes.
  void Snapshot(EnvIdx idx, std::span<char> out) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("snapshot", out.size(), SnapshotSize(idx.size()));
    char* records = out.data() + sizeof(SnapshotHeader);
    ForBoards(idx, [&](std::size_t i, const Board& board) {
      char* record = records + i * kRecordSize;
      std::memcpy(record, &seeds_[idx[i]], sizeof(std::uint64_t));
      env_.Save(board, record + sizeof(std::uint64_t));
    });
    SnapshotHeader header;
    header.config = Fingerprint();
    header.num_boards = idx.size();
    header.record_size = kRecordSize;
    header.checksum = Checksum(out.subspan(sizeof header));
    std::memcpy(out.data(), &header, sizeof header);
  }

  // Board i of the snapshot becomes board idx[i]. All records are checked before any board changes.
  void Restore(std::span<const char> data, EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    ReadSnapshotHeader(data, Fingerprint(), idx.size(), kRecordSize);
    const char* records = data.data() + sizeof(SnapshotHeader) + sizeof(std::uint64_t);
    pool_.For(idx.size(), kMinStepChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) env_.Check(records + i * kRecordSize);
    });
    ForBoards(idx, [&](std::size_t i, Board& board) {
      const char* record = records + i * kRecordSize;
      std::memcpy(&seeds_[idx[i]], record - sizeof(std::uint64_t), sizeof(std::uint64_t));
      env_.Load(board, record);
    });
  }

 private:
  void PlayTurn(std::size_t e, std::span<const std::int32_t> actions, std::size_t k, std::size_t i,
                const TurnOut& out) {
    Board& board = boards_[e];
    float* rewards = out.rewards_per_action + i * k;
    std::size_t executed = 0;
    double total = 0.0;
    bool done = board.done, success = board.success, dead = board.dead;
    if (!done) {
      for (const std::int32_t action : actions) {
        const StepOut step = env_.Step(board, action);
        rewards[executed++] = step.reward;
        total = batch_.last_reward ? step.reward : total + step.reward;
        done = step.done;
        success |= step.success;
        dead = step.dead;
        if (done && batch_.stop_at_done) break;
      }
      board.success = success;  // a win that a later action of the same turn undid stays a success
      if (done && batch_.autoreset == Autoreset::kSame) NextBoard(e);
    } else if (batch_.autoreset == Autoreset::kNext) {
      NextBoard(e);
      done = success = dead = false;
    }
    for (std::size_t j = executed; j < k; ++j) rewards[j] = 0.0f;
    out.rewards[i] = static_cast<float>(total);
    out.executed[i] = static_cast<std::int32_t>(executed);
    out.done[i] = done;
    out.success[i] = success;
    out.dead[i] = dead;
  }

  // PlayTurn for one action and no autoreset: the case that speed is measured on.
  void PlayAction(Board& board, std::int32_t action, std::size_t i, const TurnOut& out) {
    const bool live = !board.done;
    float reward = 0.0f;
    if (live) {
      const StepOut step = env_.Step(board, action);
      reward = step.reward;
      board.success |= step.success;
    }
    out.rewards_per_action[i] = out.rewards[i] = reward;
    out.executed[i] = live;
    out.done[i] = board.done;
    out.success[i] = board.success;
    out.dead[i] = board.dead;
  }

  void NextBoard(std::size_t e) {
    const std::uint64_t seed = NextSeed(seeds_[e]);
    DrawBoard(env_, boards_[e], seed, batch_.split);
    seeds_[e] = seed;
  }

  template <typename Fn>
  void ForBoards(EnvIdx idx, Fn&& fn) {
    pool_.For(idx.size(), kMinStepChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) fn(i, boards_[idx[i]]);
    });
  }

  template <typename T, typename Fn>
  void Fill(EnvIdx idx, const char* name, std::span<T> out, Fn&& fn) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount(name, out.size(), idx.size());
    ForBoards(idx, [&](std::size_t i, const Board& board) { out[i] = fn(board); });
  }

  static void CheckCount(const char* name, std::size_t got, std::size_t expected) {
    if (got != expected) {
      throw std::invalid_argument(std::string(name) + " has " + std::to_string(got) + " values, expected " +
                                  std::to_string(expected));
    }
  }

  // Every index in range and none twice: boards of one call are independent.
  void CheckIdx(EnvIdx idx) {
    if (idx.all()) return;
    if (++stamp_ == 0) {
      std::fill(stamps_.begin(), stamps_.end(), 0u);
      stamp_ = 1;
    }
    for (std::size_t i = 0; i < idx.size(); ++i) {
      if (idx[i] >= boards_.size()) {
        throw std::invalid_argument("env_idx[" + std::to_string(i) + "] is " +
                                    std::to_string(static_cast<std::int64_t>(idx[i])) + ", but num_envs is " +
                                    std::to_string(boards_.size()));
      }
      if (stamps_[idx[i]] == stamp_) {
        throw std::invalid_argument("env_idx names board " + std::to_string(idx[i]) +
                                    " twice, again at position " + std::to_string(i));
      }
      stamps_[idx[i]] = stamp_;
    }
  }

  void CheckActions(std::span<const std::int32_t> actions, std::size_t k,
                    std::span<const std::int32_t> lengths, std::size_t num_boards) const {
    const auto num_actions = static_cast<std::uint32_t>(env_.num_actions());
    if (lengths.empty()) {
      std::uint32_t bad = 0;  // not bool: so the loop is vectorized
      for (const std::int32_t action : actions)
        bad |= static_cast<std::uint32_t>(action) + 1 > num_actions ? 1 : 0;
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
        if (static_cast<std::uint32_t>(action) + 1 > num_actions) {
          throw std::invalid_argument("actions[" + std::to_string(i) + ", " + std::to_string(j) + "] is " +
                                      std::to_string(action) + ", expected -1 to " +
                                      std::to_string(env_.num_actions() - 1));
        }
      }
    }
  }

  Env env_;
  BatchConfig batch_;
  std::vector<Board> boards_;
  std::vector<std::uint64_t> seeds_;   // of the boards as they stand
  std::vector<std::uint32_t> stamps_;  // of the last call that named the board
  std::uint32_t stamp_ = 0;
  ThreadPool pool_;
  std::mutex mutex_;  // one call at a time; calls of several Python threads queue up
};

}  // namespace lamer
