// Minesweeper whose neighbourhood is hidden: the rules of rules.h, but for what a neighbour is, and that every cell
// opens alone. Boards of up to 8x8 cells, whose first cell the environment opens.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/batch_config.h"
#include "core/parse.h"
#include "core/text.h"
#include "envs/minesweeper/canonical.h"
#include "envs/minesweeper/explorer.h"
#include "envs/minesweeper/neighbours.h"
#include "envs/minesweeper/rules.h"
#include "envs/minesweeper/text.h"

namespace lamer {

struct HiddenMinesweeperConfig : MinesweeperConfig {
  bool held_out_rules = false;
};

class HiddenMinesweeper {
 public:
  using B = mines::Cells;
  using Config = HiddenMinesweeperConfig;

  struct Board {
    B mines, opened;
    B start;  // the cell opened at reset
    bool done = true, success = false, dead = false;
    std::uint8_t rule = 0;
  };

  explicit HiddenMinesweeper(const Config& config)
      : config_(Checked(config)),
        grid_(config.height, config.width),
        rewards_{static_cast<float>(config.rewards.invalid), static_cast<float>(config.rewards.open),
                 static_cast<float>(config.rewards.mine), static_cast<float>(config.rewards.win)},
        layouts_{{{grid_, Style::kCompact}, {grid_, Style::kNumbered}, {grid_, Style::kPeers}}},
        explorer_(grid_, config.num_mines) {}

  std::uint64_t Fingerprint() const {
    std::uint64_t hash = 0x7368617065ULL;  // "shape"
    for (int value : {config_.height, config_.width, config_.num_mines, int{config_.held_out_rules}}) {
      hash = HashCombine(hash, static_cast<std::uint64_t>(value));
    }
    for (float value : rewards_) hash = HashCombine(hash, std::bit_cast<std::uint32_t>(value));
    return hash;
  }

  int num_actions() const { return grid_.num_cells; }
  const Config& config() const { return config_; }

  void Generate(Board& board, std::uint64_t seed, Split split = Split::kNone) const {
    const Split of_rules = config_.held_out_rules ? split : Split::kNone;
    for (std::uint64_t draw = 0; draw < kMaxDraws; ++draw) {
      Rng rng(seed, kPurpose, draw);
      board.rule = static_cast<std::uint8_t>(mines::DrawRule(of_rules, rng));
      board.start = mines::DrawCells(grid_, 1, B{}, 0, rng);
      board.mines = mines::DrawCells(grid_, config_.num_mines, board.start, 1, rng);
      const std::uint64_t task = Task(board);
      // Without a split the rule is of the layout's own, so that the splits together are the whole.
      const bool ruled = !config_.held_out_rules || mines::RuleInSplit(board.rule, SplitOf(task));
      if (InSplit(task, split) && ruled) return Restart(board);
    }
    FailSplit(split, seed);
  }

  void Restart(Board& board) const {
    if (board.mines.None()) return;  // never reset
    board.opened = board.start;
    board.done = board.success = board.dead = false;
  }

  // action: cell row * width + column. -1, an open cell: no change. A finished board stays as it is.
  StepOut Step(Board& board, std::int32_t action) const {
    if (board.done) return {0.0f, true, board.success, board.dead};
    const int bit = grid_.bit_of[static_cast<std::size_t>(action < 0 ? 0 : action)];
    const B fresh = B::One(bit, action >= 0) & ~board.opened;
    board.opened |= fresh;
    board.dead = (fresh & board.mines).Any();
    board.success = (board.opened ^ board.mines) == grid_.cells;
    board.done = board.dead | board.success;
    int kind = kInvalid + fresh.Any();
    kind = board.dead ? kMine : kind;
    kind = board.success ? kWin : kind;
    return {rewards_[static_cast<std::size_t>(kind)], board.done, board.success, board.dead};
  }

  std::size_t TextSize(Style style) const { return static_cast<std::size_t>(layout(style).size()); }
  std::size_t TextSize(const Board&, Style style) const { return TextSize(style); }
  char* Render(const Board& board, Style style, char* out) const {
    layout(style).Render([&]() LAMER_INLINE_LAMBDA { return Symbols(board); }, out);
    return out + layout(style).size();
  }

  std::int64_t Anchor(const Board& board) const {
    std::uint64_t hash = 0;
    for (const B& plane : Symbols(board)) hash = HashCombine(hash, (plane & grid_.cells).word[0]);
    return static_cast<std::int64_t>(hash);
  }

  // A layout is as many tasks as it has starts and rules. Layout and rule together decide the split: small boards have
  // so few layouts that a policy learns those of `train` by heart and never expects another. Where rules are held out,
  // the layout decides. Images of each other are of one split.
  std::uint64_t Task(const Board& board) const {
    if (board.mines.None()) return 0;
    const auto layouts = mines::Images(grid_, board.mines), starts = mines::Images(grid_, board.start);
    std::array<std::uint64_t, 3> least{~std::uint64_t{0}, 0, 0};
    for (int i = 0; i < (grid_.height == grid_.width ? 8 : 4); ++i) {
      const auto at = static_cast<std::size_t>(i);
      least =
          std::min(least, {layouts[at].word[0], static_cast<std::uint64_t>(mines::ImageOfRule(board.rule, i)),
                           starts[at].word[0]});
    }
    constexpr std::uint64_t kHigh = ~std::uint64_t{0} << 32;  // decides the split
    const std::uint64_t size = Mix64(static_cast<std::uint64_t>(config_.height * 64 + config_.width));
    const std::uint64_t layout = HashCombine(size, least[0]), ruled = HashCombine(layout, least[1]);
    return ((config_.held_out_rules ? layout : ruled) & kHigh) | (HashCombine(ruled, least[2]) & ~kHigh);
  }

  std::optional<std::uint64_t> CountTasks(Split split) const {
    const double layouts = mines::NumLayouts(grid_.num_cells, config_.num_mines);
    if (layouts * grid_.num_cells * mines::kNumRules > mines::kMaxEnumeratedStarts) return std::nullopt;
    std::vector<std::uint64_t> tasks;
    mines::ForEachLayout(grid_, config_.num_mines, [&](const B& layout) {
      for (int rule = 0; rule < mines::kNumRules; ++rule) {
        Board board;
        board.mines = layout;
        board.rule = static_cast<std::uint8_t>(rule);
        const std::uint64_t id = Task(board);  // of the right split, whatever its start
        if (!InSplit(id, split)) continue;
        if (config_.held_out_rules && !mines::RuleInSplit(rule, SplitOf(id))) continue;
        mines::ForEach(grid_.cells & ~layout, [&](int bit) {
          board.start = B::One(bit);
          tasks.push_back(Task(board));
        });
      }
    });
    std::sort(tasks.begin(), tasks.end());
    return static_cast<std::uint64_t>(std::unique(tasks.begin(), tasks.end()) - tasks.begin());
  }

  void LegalActions(const Board& board, bool* out) const {
    for (int cell = 0; cell < num_actions(); ++cell)
      out[cell] = !board.done && !board.opened.Test(grid_.bit_of[static_cast<std::size_t>(cell)]);
  }

  // The cell of the least chance of a mine that the board as it stands tells, over all rules; the first such in row
  // order. -1 where there are too many layouts to look at each.
  std::int32_t ExpertAction(const Board& board) const {
    if (board.done || !explorer_.is_feasible()) return -1;
    std::array<double, B::kNumBits> chance;
    std::array<double, mines::kNumLines> lines;
    explorer_.Chances(Knows(board, board.opened, {}), chance, lines);
    int best = -1;
    for (int cell = 0; cell < num_actions(); ++cell) {
      const int bit = BitOf(cell);
      if (board.opened.Test(bit)) continue;
      if (best < 0 || chance[static_cast<std::size_t>(bit)] < chance[static_cast<std::size_t>(best)])
        best = bit;
    }
    return grid_.cell_of[static_cast<std::size_t>(best)];
  }

  // What a player knows of this board who has seen the numbers of some cells and hit some mines; the cell that the
  // environment opens is seen. Throws where a cell is not what it is said to be.
  mines::Known Knows(const Board& board, B seen, const B& hit) const {
    seen |= board.start;
    if ((seen & board.mines).Any() || (hit & ~board.mines).Any()) {
      throw std::invalid_argument("a cell of `seen` is a mine, or one of `hit` is none");
    }
    return mines::HiddenExplorer::Knows(board.mines, board.rule, seen, hit);
  }
  mines::HiddenExplorer& explorer() const { return explorer_; }
  int BitOf(int cell) const { return grid_.bit_of[static_cast<std::size_t>(cell)]; }

  ParseOut Parse(std::string_view reply, bool strict, std::span<std::int32_t> out) const {
    return ParseCell(reply, strict, grid_.height, grid_.width, out);
  }

  // mines, opened, start, rule. Flags follow from the sets; a board never reset has no mines.
  static constexpr std::size_t kRecordSize = 4 * sizeof(std::uint64_t);
  void Save(const Board& board, char* out) const {
    const std::array<std::uint64_t, 4> record{board.mines.word[0], board.opened.word[0], board.start.word[0],
                                              board.rule};
    std::memcpy(out, record.data(), kRecordSize);
  }

  void Load(Board& board, const char* record) const {
    const std::array<std::uint64_t, 4> r = Read(record);
    board.mines = {{r[0]}};
    board.opened = {{r[1]}};
    board.start = {{r[2]}};
    board.rule = static_cast<std::uint8_t>(r[3]);
    board.dead = (board.mines & board.opened).Any();
    board.success = board.mines.Any() && (board.mines ^ board.opened) == grid_.cells;
    board.done = board.dead || board.success || board.mines.None();
  }

  void Check(const char* record) const {
    const auto fail = [](const char* what) { throw std::invalid_argument(std::string("snapshot: ") + what); };
    const std::array<std::uint64_t, 4> r = Read(record);
    if (((r[0] | r[1] | r[2]) & ~grid_.cells.word[0]) != 0) fail("a cell is set outside the board");
    if (r[3] >= mines::kNumRules) fail("there is no such rule");
    if (r[0] == 0) {
      if (r[1] != 0 || r[2] != 0 || r[3] != 0) fail("open cells on a board that was never reset");
      return;
    }
    Board b;
    Load(b, record);
    if (b.mines.Count() != config_.num_mines) fail("the number of mines differs from its configuration");
    if ((b.mines & b.opened).AtLeastTwo()) fail("more than one mine is open");
    const bool one = b.start.Any() && !b.start.AtLeastTwo();
    if (!one || (b.start & (b.mines | ~b.opened)).Any()) fail("the first cell is not one open cell");
  }

 private:
  static constexpr std::uint64_t kPurpose = 0x7368617065;  // "shape"

  static mines::Lines LinesOf(const Board& board) { return mines::Lines(board.rule); }
  const mines::TextLayout<1>& layout(Style style) const { return layouts_[static_cast<std::size_t>(style)]; }
  LAMER_ALWAYS_INLINE std::array<B, 4> Symbols(const Board& board) const {
    return mines::VisibleSymbols(mines::CountNeighbours(board.mines, LinesOf(board)), board.mines,
                                 board.opened);
  }

  static std::array<std::uint64_t, 4> Read(const char* record) {
    std::array<std::uint64_t, 4> r;
    std::memcpy(r.data(), record, kRecordSize);
    return r;
  }

  static Config Checked(const Config& config) {
    mines::Validate(config, B::kStride);
    if (config.first_click != mines::FirstClick::kEnv || config.no_guess) {
      throw std::invalid_argument("neighbours='hidden' needs first_click='env' and no_guess=False");
    }
    return config;
  }

  enum Kind : int { kInvalid, kOpen, kMine, kWin };

  Config config_;
  mines::Grid<1> grid_;
  std::array<float, 4> rewards_;  // by Kind
  std::array<mines::TextLayout<1>, kNumStyles> layouts_;
  mutable mines::HiddenExplorer explorer_;
};

}  // namespace lamer
