// BatchEnv<Env>: N live boards of one Game, stepped together into caller-owned buffers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/batch_checks.h"
#include "core/batch_config.h"
#include "core/game.h"
#include "core/rng.h"
#include "core/snapshot.h"
#include "core/split.h"
#include "core/text.h"
#include "core/thread_pool.h"

namespace lamer {

// Board i from seeds[i].
template <Game Env>
void GenerateBoards(const Env& env, std::span<typename Env::Board> boards,
                    std::span<const std::uint64_t> seeds, Split split) {
  if constexpr (GeneratesMany<Env>) {
    env.Generate(boards, seeds, split);
  } else {
    for (std::size_t i = 0; i < boards.size(); ++i) env.Generate(boards[i], seeds[i], split);
  }
}

template <Game Env>
class BatchEnv {
 public:
  using Board = typename Env::Board;

  static constexpr std::int64_t kMaxEnvs = std::numeric_limits<std::int32_t>::max();
  static constexpr std::int64_t kMaxThreads = 1024;
  // Below twice this many boards a call runs on the caller's thread alone.
  static constexpr std::size_t kMinStepChunk = 1024;
  static constexpr std::size_t kMinResetChunk = 8;

  BatchEnv(std::int64_t num_envs, const typename Env::Config& config, const BatchConfig& batch)
      : env_(config), batch_(batch), pool_(batch.num_threads) {
    CheckRange("num_envs", num_envs, 1, kMaxEnvs);
    CheckRange("num_threads", batch.num_threads, 1, kMaxThreads);
    boards_.resize(static_cast<std::size_t>(num_envs));
    seeds_.resize(boards_.size());
    idx_check_.Resize(boards_.size());
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
      GenerateBoards(env_, std::span(drawn).subspan(begin, end - begin), seeds.subspan(begin, end - begin),
                     batch_.split);
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
    CheckActions(actions, k, lengths, idx.size(), env_.num_actions());
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

  // Text i goes to arena[offsets[i] .. offsets[i + 1]), offsets [B + 1]. Too small an arena is not touched.
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

  // fn(i, board) for board idx[i], in parallel chunks of at least min_chunk: for what only one game has.
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
    env_.Generate(boards_[e], seed, batch_.split);
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

  void CheckIdx(EnvIdx idx) { idx_check_.Check(idx); }

  Env env_;
  BatchConfig batch_;
  std::vector<Board> boards_;
  std::vector<std::uint64_t> seeds_;  // of the boards as they stand
  IdxCheck idx_check_;
  ThreadPool pool_;
  std::mutex mutex_;  // one call at a time; calls of several Python threads queue up
};

}  // namespace lamer
