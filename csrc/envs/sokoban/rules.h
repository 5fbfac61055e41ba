// Sokoban: push all boxes onto the targets. Rules and shaped rewards of gym-sokoban 0.0.6
// (github.com/mpSchrader/gym-sokoban) with LaMer's actions: 0 up, 1 down, 2 left, 3 right, 4 still, -1 what
// could not be read.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_set>

#include "core/batch_config.h"
#include "core/parse.h"
#include "core/split.h"
#include "envs/sokoban/bits.h"
#include "envs/sokoban/board.h"
#include "envs/sokoban/config.h"
#include "envs/sokoban/controls.h"
#include "envs/sokoban/explorer.h"
#include "envs/sokoban/levels.h"
#include "envs/sokoban/room.h"
#include "envs/sokoban/search.h"
#include "envs/sokoban/solver.h"
#include "envs/sokoban/text.h"

namespace lamer {

class Sokoban {
 public:
  static constexpr int kNumActions = 5;

  using Config = SokobanConfig;
  using Rewards = SokobanRewards;

  using Board = sokoban::Board;

  explicit Sokoban(const Config& config)
      : config_(Checked(config)),
        inner_(sokoban::InnerCells(config_.height, config_.width)),
        layout_(config_.height, config_.width) {
    for (unsigned i = 0; i < rewards_.size(); ++i) {
      const Rewards& r = config_.rewards;
      const double sum = r.step + (i & kOn ? r.on : 0.0) + (i & kOff ? r.off : 0.0) +
                         (i & kWin ? r.win : 0.0) + (i & kDead ? r.dead : 0.0);
      rewards_[i] = static_cast<float>(i & kInvalid ? r.invalid : sum);
    }
    sticky_ = static_cast<std::uint64_t>(std::ldexp(config_.sticky, 64));
    keeps_went_ = config_.show_moves || sticky_ != 0;
  }

  const Config& config() const { return config_; }
  int num_actions() const { return kNumActions; }

  std::uint64_t Fingerprint() const {
    std::uint64_t hash = 0x536f6b6f62616eULL;
    const Config& c = config_;
    for (int value :
         {c.height, c.width, c.num_boxes, c.min_moves, c.max_moves, int{c.track_dead}, int{c.end_on_dead}}) {
      hash = HashCombine(hash, static_cast<std::uint64_t>(value));
    }
    if (c.controls != sokoban::Controls::kPlain) {
      hash = HashCombine(hash, static_cast<std::uint64_t>(c.controls) + 256 * c.held_out_rules);
    }
    if (c.show_moves) hash = HashCombine(hash, 1);
    if (c.sticky > 0.0) hash = HashCombine(hash, std::bit_cast<std::uint64_t>(c.sticky));
    const Rewards& r = c.rewards;
    for (double value : {r.step, r.on, r.off, r.win, r.dead, r.invalid}) {
      hash = HashCombine(hash, std::bit_cast<std::uint64_t>(value));
    }
    if (c.levels) {
      for (const auto& level : c.levels->levels) {
        for (sokoban::Bits b : {level.floor, level.targets, level.boxes, sokoban::Bit(level.player)}) {
          hash = HashCombine(hash, b);
        }
      }
    }
    return hash;
  }

  void Generate(Board& board, std::uint64_t seed, Split split = Split::kNone) const {
    for (std::uint64_t draw = 0; draw < kMaxDraws; ++draw) {
      DrawCandidate(board, seed, draw);
      if (split != Split::kNone && !InSplit(Task(board), split)) continue;
      const Split of_rules = config_.held_out_rules ? SplitOf(Task(board)) : Split::kNone;
      board.rule = sokoban::DrawRule(config_.controls, of_rules, seed, draw);
      if (sticky_ != 0) board.luck.key = static_cast<std::uint32_t>(Rng::Key(seed, kLuck));
      return;
    }
    FailSplit(split, seed);
  }

  void Restart(Board& board) const {
    board.boxes = board.start_boxes;
    board.player = board.start_player;
    board.done = board.floor == 0;
    board.success = board.dead = false;
    board.said = board.went = 0;
    if (sticky_ != 0 && board.floor != 0) {
      ++board.luck.episode;
      board.luck.turn = 0;
    }
  }

  StepOut Step(Board& board, std::int32_t action) const {
    using sokoban::Bits;
    std::uint8_t made = sokoban::kRules[board.rule][static_cast<std::size_t>(action + 1)];
    if (sticky_ != 0 && action >= 0) [[unlikely]]
      made = WithLuck(board, made);
    const auto& move = sokoban::kMoves[made];
    const Bits to = move.to[board.player], beyond = move.beyond[board.player];
    const Bits free = board.floor & ~board.boxes;
    // No branches on the player's luck: random play mispredicts every one of them.
    const Bits pushed = sokoban::AllOnes(to & board.boxes) & sokoban::AllOnes(beyond & free);
    const Bits moved = pushed | sokoban::AllOnes(to & free);
    const Bits on = beyond & board.targets & pushed, off = to & board.targets & pushed;
    board.boxes ^= (to | beyond) & pushed;
    board.player = static_cast<std::uint8_t>(board.player + (move.offset & static_cast<int>(moved)));
    if (config_.show_moves) board.said = static_cast<std::uint8_t>(action + 1);
    if (keeps_went_ && (sticky_ == 0 || action >= 0)) board.went = moved != 0 ? made : std::uint8_t{0};
    const bool success = board.boxes == board.targets;
    unsigned kind = (unsigned{on != 0} * kOn) | (unsigned{off != 0} * kOff) | (unsigned{success} * kWin) |
                    (unsigned{action < 0} * kInvalid);
    if (config_.track_dead && pushed != 0 && !board.dead && solver_.IsDead(board)) {
      board.dead = true;
      kind |= kDead;
    }
    board.done = success || (config_.end_on_dead && board.dead);
    return {rewards_[kind], board.done, success, board.dead};
  }

  std::size_t TextSize(Style style) const { return config_.show_moves ? 0 : layout_.TextSize(style); }
  std::size_t TextSize(const Board& board, Style style) const {
    const std::size_t line = board.said == 0 ? 0 : sokoban::LineSize(board.said, board.went);
    return layout_.TextSize(board.targets, board.boxes, style) + line;
  }
  char* Render(const Board& board, Style style, char* out) const {
    out = layout_.Render(board.floor, board.targets, board.boxes, board.player, style, out);
    return board.said == 0 ? out : sokoban::RenderLine(board.said, board.went, out);
  }

  std::int64_t Anchor(const Board& board) const {
    const std::int64_t hash = StateHash(board);
    if (board.said == 0) return hash;
    return static_cast<std::int64_t>(
        HashCombine(static_cast<std::uint64_t>(hash), board.said * 8ULL + board.went));
  }

  // Of the board alone, without the line of show_moves.
  std::int64_t StateHash(const Board& board) const {
    std::uint64_t hash = 0x616e63686f72ULL;
    for (sokoban::Bits b : {board.floor, board.targets, board.boxes, sokoban::Bits{board.player}}) {
      hash = HashCombine(hash, b);
    }
    return static_cast<std::int64_t>(hash);
  }

  // With controls of its own a level is as many tasks as there are rules, all of them in the level's split.
  std::uint64_t Task(const Board& board) const {
    return board.floor == 0
               ? 0
               : TaskOf({board.floor, board.targets, board.start_boxes, board.start_player}, board.rule);
  }

  // A move that changes the board, or still; under controls that must be found out every word.
  void LegalActions(const Board& board, bool* out) const {
    if (config_.controls != sokoban::Controls::kPlain) {
      for (int action = 0; action < kNumActions; ++action) out[action] = !board.done;
      return;
    }
    for (int action = 0; action < 4; ++action) {
      sokoban::Bits boxes = board.boxes, player = sokoban::Bit(board.player);
      out[action] = !board.done && sokoban::Apply(board.floor, action, boxes, player);
    }
    out[4] = !board.done;
  }

  // The word of the least first move of a shortest solution: an expert knows the controls. -1 when the board is
  // done or cannot be solved, or when its level is too large for a table and kMaxSearchFronts did not suffice.
  std::int32_t ExpertAction(Board& board) const {
    const std::int32_t move = solver_.Move(board);
    return move < 0 ? move : sokoban::WordOf(board.rule, move);
  }

  // out: [kNumActions + 2], hashes of the board as it stands, after each move (not word) from here, and after
  // what the next turn may repeat, 0 where that is nothing.
  void StateHashes(const Board& board, std::span<std::int64_t> out) const {
    out[0] = StateHash(board);
    for (int move = 0; move < kNumActions; ++move) {
      Board after = board;
      sokoban::Bits player = sokoban::Bit(board.player);
      if (move < 4) sokoban::Apply(board.floor, move, after.boxes, player);
      after.player = static_cast<std::uint8_t>(sokoban::LowestCell(player));
      out[static_cast<std::size_t>(move + 1)] = StateHash(after);
    }
    const int repeated = Repeated(board);
    out[kNumActions + 1] = repeated < 0 ? 0 : out[static_cast<std::size_t>(repeated + 1)];
  }

  // out: [kNumActions], the chance of a success within the turns that are left of this episode and the episodes
  // after it, each of max_turns, if this word is said now and everything after it is chosen as well as can be.
  void Explore(const Board& board, sokoban::Belief belief, int turns, int episodes, int max_turns,
               std::span<double> out) const {
    if (config_.end_on_dead) throw std::invalid_argument("explore: end_on_dead is True, expected False");
    std::fill(out.begin(), out.end(), 0.0);
    if (board.done) return;
    belief.Shift();
    const sokoban::State state{board.boxes, board.player, Repeated(board)};
    explorers_.With({board.floor, board.targets, board.start_boxes, board.start_player}, config_.controls,
                    config_.sticky, max_turns, [&](sokoban::Explorer& explorer) {
                      explorer.Values(state, belief, turns, episodes, out);
                    });
  }

  ParseOut Parse(std::string_view reply, bool strict, std::span<std::int32_t> out) const {
    return ParseMoves(reply, strict, out);
  }

  static constexpr std::size_t kRecordSize = sizeof(sokoban::Record);

  void Save(const Board& board, char* out) const { sokoban::Save(board, out); }
  void Check(const char* data) const {
    if (!sokoban::IsBoard(data, config_, inner_)) FailCheck();
  }
  void Load(Board& board, const char* data) const { sokoban::Load(board, data); }

  // Known for loaded levels only.
  std::optional<std::uint64_t> CountTasks(Split split) const {
    if (!config_.levels) return std::nullopt;
    std::unordered_set<std::uint64_t> tasks;
    for (const auto& level : config_.levels->levels) {
      for (int rule = 0; rule < sokoban::NumRules(config_.controls); ++rule) {
        const std::uint64_t task = TaskOf(level, static_cast<std::uint8_t>(rule));
        const Split of_rules = config_.held_out_rules ? SplitOf(task) : Split::kNone;
        if (InSplit(task, split) && sokoban::RuleInSplit(rule, of_rules)) tasks.insert(task);
      }
    }
    return tasks.size();
  }

  // Fewest moves that solve the board as it stands: -1 when it cannot be solved, -2 when that is not known.
  std::int32_t Distance(Board& board) const { return solver_.Distance(board); }

 private:
  enum Kind : unsigned { kOn = 1, kOff = 2, kWin = 4, kDead = 8, kInvalid = 16 };

  static constexpr std::uint64_t kLuck = 0x6c75636bULL;  // "luck"

  // The move that the next turn may repeat: 0 to 3, 4 (the last one changed nothing), or -1.
  int Repeated(const Board& board) const {
    if (sticky_ == 0 || board.luck.turn == 0) return -1;
    return board.went == 0 ? 4 : board.went - 1;
  }

  // The move of this turn, from 1: what was said, or with chance `sticky` what the turn before has made. A
  // function of seed, episode and turn: no thread, and no other board, has a part in it.
  [[gnu::noinline]] std::uint8_t WithLuck(Board& board, std::uint8_t said) const {
    const int repeated = Repeated(board);
    const std::uint64_t luck = HashCombine(kLuck, std::bit_cast<std::uint64_t>(board.luck));
    if (board.luck.turn < 0xffff) ++board.luck.turn;
    return repeated >= 0 && luck < sticky_ ? static_cast<std::uint8_t>(repeated + 1) : said;
  }

  [[noreturn]] void FailCheck() const {
    throw std::invalid_argument("snapshot: a record is not a board of " + std::to_string(config_.height) +
                                "x" + std::to_string(config_.width) + " cells");
  }

  static std::uint64_t TaskOf(const sokoban::Level& level, std::uint8_t rule) {
    const std::uint64_t id = sokoban::CanonicalId(level);
    if (rule == 0) return id;
    constexpr std::uint64_t kHigh = ~std::uint64_t{0} << 32;  // decides the split
    return (id & kHigh) | (HashCombine(id, rule) & ~kHigh);
  }

  static Config Checked(Config config) {
    if (config.levels) {
      config.height = config.levels->height;
      config.width = config.levels->width;
    }
    config.Validate();
    return config;
  }

  void DrawCandidate(Board& board, std::uint64_t seed, std::uint64_t draw) const {
    if (config_.levels) {
      const auto& levels = config_.levels->levels;
      return SetLevel(board, levels[(seed % levels.size() + draw % levels.size()) % levels.size()]);
    }
    const sokoban::RoomConfig room{config_.height, config_.width, config_.num_boxes, config_.min_moves,
                                   config_.max_moves};
    const auto level = sokoban::GenerateLevel(room, seed, draw);
    if (!level) {
      throw GenerationError("no " + std::to_string(config_.height) + "x" + std::to_string(config_.width) +
                            " board of " + std::to_string(config_.num_boxes) + " boxes with an optimum of " +
                            std::to_string(config_.min_moves) + " to " + std::to_string(config_.max_moves) +
                            " moves in " + std::to_string(sokoban::kMaxRooms) + " rooms or " +
                            std::to_string(sokoban::kMaxFronts) + " search fronts for seed " +
                            std::to_string(seed));
    }
    SetLevel(board, *level);
  }

  static void SetLevel(Board& board, const sokoban::Level& level) {
    board.floor = level.floor;
    board.targets = level.targets;
    board.boxes = board.start_boxes = level.boxes;
    board.player = board.start_player = static_cast<std::uint8_t>(level.player);
    board.done = board.success = board.dead = false;
    board.rule = board.said = board.went = 0;
    board.luck = {};
    board.table.reset();
  }

  Config config_;
  sokoban::Bits inner_;
  sokoban::TextLayout layout_;
  std::array<float, 32> rewards_;
  std::uint64_t sticky_;  // of 2^64
  bool keeps_went_;
  sokoban::Solver solver_;
  mutable sokoban::ExplorerCache explorers_;
};

}  // namespace lamer
