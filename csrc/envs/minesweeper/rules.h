// Minesweeper: rules, state and reward. The rules are those of the official LaMer environment
// (mlbio-epfl/LaMer 9a4756c, left click only), written anew and without its faults: no board is won or lost
// at reset, and a board is a function of its seed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>

#include "core/batch_config.h"
#include "core/parse.h"
#include "core/text.h"
#include "envs/minesweeper/generator.h"
#include "envs/minesweeper/probabilities.h"
#include "envs/minesweeper/tasks.h"
#include "envs/minesweeper/text.h"

namespace lamer {

// Those of the official environment. open: one cell; cascade: more than one; a win pays `win` alone.
struct MinesweeperRewards {
  double win = 10.0, open = 0.5, cascade = 2.0, mine = -0.1, invalid = -1.0;
};

struct MinesweeperConfig : mines::BoardConfig {
  MinesweeperRewards rewards;
};

// Boards of up to 8x8 cells in one word, of up to 16x16 in four.
template <int kWords>
class MinesweeperOf {
 public:
  using B = mines::Bits<kWords>;
  using Config = MinesweeperConfig;

  struct Board {
    B mines, opened;
    B start;  // Level::start
    bool done = true, success = false, dead = false;
    bool moved = false;           // a mine under the agent's first click moved from moved_from to start
    std::uint8_t moved_from = 0;  // bit
  };

  static constexpr int kMaxSide = B::kStride;

  explicit MinesweeperOf(const Config& config)
      : rewards_{static_cast<float>(config.rewards.invalid), static_cast<float>(config.rewards.open),
                 static_cast<float>(config.rewards.cascade), static_cast<float>(config.rewards.mine),
                 static_cast<float>(config.rewards.win)},
        generator_((mines::Validate(config, kMaxSide), config)),
        layouts_{{{grid(), Style::kCompact}, {grid(), Style::kNumbered}, {grid(), Style::kPeers}}} {}

  std::uint64_t Fingerprint() const {
    const mines::BoardConfig& c = config();
    std::uint64_t hash = 0x6d696e657377ULL;  // "minesw"
    for (int value : {c.height, c.width, c.num_mines, static_cast<int>(c.first_click),
                      static_cast<int>(c.no_guess), c.max_tries}) {
      hash = HashCombine(hash, static_cast<std::uint64_t>(value));
    }
    for (float value : rewards_) hash = HashCombine(hash, std::bit_cast<std::uint32_t>(value));
    return hash;
  }

  int num_actions() const { return grid().num_cells; }
  const mines::BoardConfig& config() const { return generator_.config(); }
  const mines::Grid<kWords>& grid() const { return generator_.grid(); }

  void Generate(Board& board, std::uint64_t seed, Split split = Split::kNone) const {
    Start(board, generator_.Generate(seed, split));
  }
  void Generate(std::span<Board> boards, std::span<const std::uint64_t> seeds, Split split) const {
    generator_.Generate(seeds, split,
                        [&](std::size_t i, const mines::Level<kWords>& level) { Start(boards[i], level); });
  }

  // The board with these mines and `first` free: opened here, or waiting there for the agent's first click.
  void Lay(Board& board, std::span<const bool> is_mine, std::int32_t first) const {
    const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
    if (is_mine.size() != static_cast<std::size_t>(num_actions())) {
      fail("mines has " + std::to_string(is_mine.size()) + " cells, expected " +
           std::to_string(num_actions()));
    }
    if (first < 0 || first >= num_actions()) {
      fail("first is " + std::to_string(first) + ", expected 0 to " + std::to_string(num_actions() - 1));
    }
    mines::Level<kWords> level;
    for (int cell = 0; cell < num_actions(); ++cell) {
      if (is_mine[cell]) level.mines |= B::One(grid().bit_of[cell]);
    }
    level.start = B::One(grid().bit_of[first]);
    if (level.mines.Count() != config().num_mines) {
      fail("the board has " + std::to_string(level.mines.Count()) + " mines, its configuration " +
           std::to_string(config().num_mines));
    }
    if ((level.mines & level.start).Any()) fail("the first cell, " + std::to_string(first) + ", is a mine");
    if (!ByAgent()) level.start = mines::Cascade(grid(), level.mines, level.start);
    if (!generator_.Accept(level)) fail("the board is won at once, or needs a guess under no_guess=True");
    Start(board, level);
  }

  void Restart(Board& board) const {
    if (board.mines.None()) return;  // never reset
    if (board.moved) board.mines ^= board.start | B::One(board.moved_from);
    board.moved = false;
    board.opened = ByAgent() ? B{} : board.start;
    board.done = board.success = board.dead = false;
  }

  // action: cell row * width + column. -1, an open cell: no change. A finished board stays as it is.
  // Only a cascade branches: whether a cell is open, a mine or the last one is a coin toss to the processor.
  StepOut Step(Board& board, std::int32_t action) const {
    if (board.done) return {0.0f, true, board.success, board.dead};
    const int bit = grid().bit_of[static_cast<std::size_t>(action < 0 ? 0 : action)];
    const B cell = B::One(bit, action >= 0);
    if (ByAgent() && board.opened.None() && action >= 0) MakeSafe(board, bit);
    const B fresh = cell & ~board.opened;
    board.opened |= fresh;
    int kind = kInvalid + fresh.Any();
    if ((fresh & ~mines::Dilate(board.mines)).Any()) {
      const B before = board.opened;
      board.opened |= mines::Cascade(grid(), board.mines, fresh);
      if (board.opened != before) kind = kCascade;
    }
    board.dead = (fresh & board.mines).Any();
    board.success = (board.opened ^ board.mines) == grid().cells;
    board.done = board.dead | board.success;
    kind = board.dead ? kMine : kind;
    kind = board.success ? kWin : kind;
    return {rewards_[static_cast<std::size_t>(kind)], board.done, board.success, board.dead};
  }

  std::size_t TextSize(Style style) const { return static_cast<std::size_t>(layout(style).size()); }
  std::size_t TextSize(const Board&, Style style) const { return TextSize(style); }
  char* Render(const Board& board, Style style, char* out) const {
    layout(style).Render(board.mines, board.opened, out);
    return out + layout(style).size();
  }

  std::int64_t Anchor(const Board& board) const {
    std::uint64_t hash = 0;
    for (const B& plane : mines::VisibleSymbols(board.mines, board.opened)) {
      for (std::uint64_t word : (plane & grid().cells).word) hash = HashCombine(hash, word);
    }
    return static_cast<std::int64_t>(hash);
  }

  std::uint64_t Task(const Board& board) const {
    B mines = board.mines;
    if (board.moved) mines ^= board.start | B::One(board.moved_from);
    return generator_.Task({mines, board.start});
  }
  std::optional<std::uint64_t> CountTasks(Split split) const { return mines::CountTasks(generator_, split); }

  void LegalActions(const Board& board, bool* out) const {
    for (int cell = 0; cell < num_actions(); ++cell)
      out[cell] = !board.done && !board.opened.Test(grid().bit_of[cell]);
  }

  // A provably safe cell if there is one, else one of lowest mine probability; the first such in row order.
  std::int32_t ExpertAction(const Board& board) const {
    if (board.done) return -1;
    const mines::View<kWords> view = ViewOf(board);
    const B hidden = grid().cells & ~board.opened;
    B known, safe;
    for (B last = ~known; safe.None() && last != known;) {
      last = known;
      safe = mines::DeduceSimple(grid(), view, known);
    }
    if (safe.Any()) return grid().cell_of[safe.First()];
    const auto probabilities = mines::FindMineProbabilities(grid(), view);
    if (!probabilities.exact) safe = mines::ProvablySafe(grid(), view, board.mines, true);
    if (safe.Any()) return grid().cell_of[safe.First()];
    int best = hidden.First();
    mines::ForEach(hidden, [&](int bit) {
      if (probabilities.at[bit] < probabilities.at[best]) best = bit;
    });
    return grid().cell_of[best];
  }

  // out: [num_cells], 0 at open cells, 1 at an opened mine. Before the agent's first click: of the layout as
  // drawn. Returns whether they are exact.
  bool FindMineProbabilities(const Board& board, std::span<double> out) const {
    const B hit = board.mines & board.opened;  // known: taken out of the board
    mines::Grid<kWords> rest = grid();
    rest.cells &= ~hit;
    const auto found = mines::FindMineProbabilities<kWords>(
        rest,
        {board.opened & ~hit, mines::CountNeighbours(board.mines & ~hit), config().num_mines - hit.Count()});
    for (int cell = 0; cell < num_actions(); ++cell) {
      const int bit = grid().bit_of[cell];
      out[cell] = hit.Test(bit) ? 1.0 : found.at[bit];
    }
    return found.exact;
  }

  ParseOut Parse(std::string_view reply, bool strict, std::span<std::int32_t> out) const {
    return ParseCell(reply, strict, grid().height, grid().width, out);
  }

  // mines, opened, start, then moved and moved_from. Flags follow from the sets, and are not stored; a board
  // never reset has no mines.
  static constexpr std::size_t kRecordSize = 3 * sizeof(B) + sizeof(std::uint64_t);
  void Save(const Board& board, char* out) const {
    const std::uint64_t rest = std::uint64_t{board.moved} | std::uint64_t{board.moved_from} << 8;
    std::memcpy(out, &board.mines, sizeof(B));
    std::memcpy(out + sizeof(B), &board.opened, sizeof(B));
    std::memcpy(out + 2 * sizeof(B), &board.start, sizeof(B));
    std::memcpy(out + 3 * sizeof(B), &rest, sizeof rest);
  }

  void Load(Board& board, const char* record) const {
    Read(board, record);
    board.dead = (board.mines & board.opened).Any();
    board.success = board.mines.Any() && (board.mines ^ board.opened) == grid().cells;
    board.done = board.dead || board.success || board.mines.None();
  }

  void Check(const char* record) const {
    const auto fail = [](const char* what) { throw std::invalid_argument(std::string("snapshot: ") + what); };
    Board b;
    const std::uint64_t rest = Read(b, record);
    const B none, outside = ~grid().cells;
    if (((b.mines | b.opened | b.start) & outside).Any()) fail("a cell is set outside the board");
    if ((rest & ~std::uint64_t{0xff01}) != 0) fail("a flag is neither 0 nor 1");
    if (b.mines.None()) {
      if (b.opened != none || b.start != none || b.moved) fail("open cells on a board that was never reset");
      return;
    }
    if (!b.mines.HasCount(config().num_mines)) fail("the number of mines differs from its configuration");
    const B hit = b.mines & b.opened, open = b.opened & ~b.mines;
    if (hit.AtLeastTwo()) fail("more than one mine is open");
    const B blank = ~mines::Dilate(b.mines);
    // Of open cells without a neighbouring mine all neighbours are open: then they are cascades.
    const auto is_closed = [&](const B& set) {
      return (mines::Dilate(set & blank) & grid().cells & ~set).None();
    };
    if (!is_closed(open)) fail("open cells do not agree with the mines");
    if (ByAgent()) {
      if (b.start.None() || b.start.AtLeastTwo()) fail("the free cell is not one cell");
      if ((b.mines & b.start).Any() != b.moved) fail("the free cell does not agree with the mines");
      if (b.moved && (b.moved_from >= B::kNumBits || !open.Test(b.moved_from)))
        fail("a mine moved from no open cell");
    } else {
      if (b.moved) fail("a mine moved on a board whose first cell the environment opens");
      if (b.start.None() || (b.start & ~open).Any() || !is_closed(b.start)) {
        fail("the cells opened at reset do not agree with the mines");
      }
    }
  }

 private:
  bool ByAgent() const { return config().first_click == mines::FirstClick::kAgent; }
  const mines::TextLayout<kWords>& layout(Style style) const {
    return layouts_[static_cast<std::size_t>(style)];
  }
  mines::View<kWords> ViewOf(const Board& board) const {
    return {board.opened, mines::CountNeighbours(board.mines), config().num_mines};
  }

  // All but the flags; returns the record's last word.
  static std::uint64_t Read(Board& board, const char* record) {
    std::uint64_t rest;
    std::memcpy(&board.mines, record, sizeof(B));
    std::memcpy(&board.opened, record + sizeof(B), sizeof(B));
    std::memcpy(&board.start, record + 2 * sizeof(B), sizeof(B));
    std::memcpy(&rest, record + 3 * sizeof(B), sizeof rest);
    board.moved = rest & 1;
    board.moved_from = static_cast<std::uint8_t>(rest >> 8);
    return rest;
  }

  void Start(Board& board, const mines::Level<kWords>& level) const {
    board.mines = level.mines;
    board.start = level.start;
    board.moved = false;
    Restart(board);
  }

  static void MakeSafe(Board& board, int bit) {
    const B cell = B::One(bit);
    if ((board.mines & cell).None()) return;
    board.mines ^= cell | board.start;
    board.moved = true;
    board.moved_from = static_cast<std::uint8_t>(bit);
  }

  enum Kind : int { kInvalid, kOpen, kCascade, kMine, kWin };

  std::array<float, 5> rewards_;  // by Kind
  mines::Generator<kWords> generator_;
  std::array<mines::TextLayout<kWords>, kNumStyles> layouts_;
};

using Minesweeper = MinesweeperOf<1>;
using MinesweeperLarge = MinesweeperOf<4>;

}  // namespace lamer
