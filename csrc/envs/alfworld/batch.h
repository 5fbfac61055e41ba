// Batch: N boards of ALFWorld, each with a game of its own, played together.
//
// Not a Game of core/game.h: there all boards of a batch share one list of actions, one size of text and one
// size of state. Here all three are the game's, and a batch plays many games at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/batch_checks.h"
#include "core/batch_config.h"
#include "core/snapshot.h"
#include "core/thread_pool.h"
#include "envs/alfworld/board.h"

namespace lamer::alfworld {

using Games = std::span<const std::shared_ptr<const Tables>>;

// Of one turn, [B] each. won: the task was solved by this turn. unclear: Played::kUnclear.
struct TurnsOut {
  bool *done, *success, *won, *unclear;
};

class Batch {
 public:
  static constexpr std::size_t kMinChunk = 256;  // boards that are worth a thread
  static constexpr std::uint64_t kFingerprint = 0x616c66776f726c64ULL;

  Batch(std::int64_t num_envs, int num_threads) : pool_(num_threads) {
    CheckRange("num_envs", num_envs, 1, 1 << 24);
    CheckRange("num_threads", num_threads, 1, 1024);
    boards_.resize(static_cast<std::size_t>(num_envs));
    idx_check_.Resize(boards_.size());
  }

  std::size_t num_envs() const { return boards_.size(); }

  // games: [B].
  void Reset(Games games, EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("games", games.size(), idx.size());
    for (std::size_t i = 0; i < idx.size(); ++i) boards_[idx[i]].Start(games[i]);
  }

  void Restart(EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    for (std::size_t i = 0; i < idx.size(); ++i) boards_[idx[i]].Restart();
  }

  // commands: [B]; none (of a reply that is no command) changes nothing, nor does any on a finished board.
  void Step(std::span<const std::optional<std::string_view>> commands, EnvIdx idx, const TurnsOut& out) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("commands", commands.size(), idx.size());
    pool_.For(idx.size(), kMinChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        Board& board = boards_[idx[i]];
        const bool plays = !board.done && commands[i].has_value();
        out.unclear[i] = plays && board.Play(*commands[i]) == Played::kUnclear;
        out.won[i] = plays && board.success;
        out.done[i] = board.done;
        out.success[i] = board.success;
      }
    });
  }

  // texts: [B], what was said last.
  void Texts(EnvIdx idx, std::span<std::string> texts) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    pool_.For(idx.size(), kMinChunk, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        texts[i].clear();
        boards_[idx[i]].Write(texts[i]);
      }
    });
  }

  // commands: [B] lists of what can be done.
  void Commands(EnvIdx idx, std::span<Numbers> commands) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    pool_.For(idx.size(), kMinChunk, [&](std::size_t begin, std::size_t end) {
      Words scratch;
      for (std::size_t i = begin; i < end; ++i) {
        commands[i].clear();
        boards_[idx[i]].ForCommands(scratch, [&](std::int32_t command) { commands[i].push_back(command); });
      }
    });
  }

  void Anchors(EnvIdx idx, std::span<std::int64_t> out) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("anchors", out.size(), idx.size());
    for (std::size_t i = 0; i < idx.size(); ++i) out[i] = boards_[idx[i]].Anchor();
  }

  void Flags(EnvIdx idx, bool* done, bool* success) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    for (std::size_t i = 0; i < idx.size(); ++i) {
      done[i] = boards_[idx[i]].done;
      success[i] = boards_[idx[i]].success;
    }
  }

  std::string Snapshot(EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    std::size_t size = Board::RecordSize(nullptr);
    for (std::size_t i = 0; i < idx.size(); ++i) {
      size = std::max(size, Board::RecordSize(boards_[idx[i]].game()));
      if (boards_[idx[i]].game() == nullptr) {
        throw std::invalid_argument("board " + std::to_string(idx[i]) + " has no game yet: reset it");
      }
    }
    std::string data(sizeof(SnapshotHeader) + idx.size() * size, '\0');
    for (std::size_t i = 0; i < idx.size(); ++i) {
      boards_[idx[i]].Save(data.data() + sizeof(SnapshotHeader) + i * size, size);
    }
    SnapshotHeader header;
    header.config = kFingerprint;
    header.num_boards = idx.size();
    header.record_size = size;
    header.checksum = Checksum(std::span<const char>(data).subspan(sizeof header));
    std::memcpy(data.data(), &header, sizeof header);
    return data;
  }

  // games: [B], of the boards in the snapshot. All records are checked before any board changes.
  void Restore(std::span<const char> data, Games games, EnvIdx idx) {
    const std::lock_guard lock(mutex_);
    CheckIdx(idx);
    CheckCount("games", games.size(), idx.size());
    std::size_t size = Board::RecordSize(nullptr);
    for (const auto& game : games) size = std::max(size, Board::RecordSize(game.get()));
    ReadSnapshotHeader(data, kFingerprint, idx.size(), size);
    const char* records = data.data() + sizeof(SnapshotHeader);
    for (std::size_t i = 0; i < idx.size(); ++i) Board::Check(records + i * size, *games[i]);
    for (std::size_t i = 0; i < idx.size(); ++i) boards_[idx[i]].Load(records + i * size, games[i]);
  }

 private:
  void CheckIdx(EnvIdx idx) { idx_check_.Check(idx); }

  std::vector<Board> boards_;
  IdxCheck idx_check_;
  ThreadPool pool_;
  std::mutex mutex_;
};

}  // namespace lamer::alfworld
