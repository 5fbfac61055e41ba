// Minesweeper rules, symmetries, text and generation against slow code written cell by cell.
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "envs/minesweeper/rules.h"
#include "tests/check.h"
#include "tests/minesweeper_slow.h"

namespace lamer {
namespace {

constexpr std::pair<int, int> kSizes[] = {{1, 3}, {3, 1}, {2, 2}, {4, 4}, {5, 5},
                                          {6, 6}, {5, 8}, {8, 3}, {8, 8}};
constexpr std::pair<int, int> kLargeSizes[] = {{1, 16}, {16, 1}, {6, 6}, {9, 9}, {10, 7}, {12, 16}, {16, 16}};

MinesweeperConfig Config(int height, int width, int num_mines) {
  MinesweeperConfig config;
  config.height = height;
  config.width = width;
  config.num_mines = num_mines;
  return config;
}

template <int kWords, typename Fn>
void ForEachSize(Fn&& fn) {
  if constexpr (kWords == 1) {
    for (const auto& [height, width] : kSizes) fn(height, width);
  } else {
    for (const auto& [height, width] : kLargeSizes) fn(height, width);
  }
}

// Random play on every size, compared with the slow board after each action.
template <int kWords>
void TestPlay() {
  ForEachSize<kWords>([](int height, int width) {
    const int num_cells = height * width;
    for (int num_mines : {1, num_cells / 8, num_cells / 4, num_cells - 2}) {
      if (num_mines < 1 || num_mines > num_cells - 2) continue;
      const MinesweeperOf<kWords> env(Config(height, width, num_mines));
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        typename MinesweeperOf<kWords>::Board board;
        env.Generate(board, seed);
        CHECK(!board.done);
        slow::Board expected = slow::FromBoard(env, board);
        CHECK(static_cast<int>(expected.mines.size()) == num_mines);
        Rng rng(seed, 1, 0);
        for (int turn = 0; turn < num_cells && !board.done; ++turn) {
          const auto action =
              static_cast<std::int32_t>(rng.Below(static_cast<std::uint32_t>(num_cells) + 1)) - 1;
          const float reward = expected.Step(action);
          const StepOut out = env.Step(board, action);
          CHECK(out.reward == reward);
          CHECK(out.done == expected.done && out.success == expected.won && out.dead == expected.lost);
          for (Style style : {Style::kCompact, Style::kNumbered, Style::kPeers}) {
            const std::string text = expected.Text(style != Style::kCompact);
            for (Simd level : {Simd::kScalar, Simd::kNeon, Simd::kAvx2, Simd::kAvx512}) {
              if (!HasSimd(level)) continue;
              SetSimdLevel(kSimdNames[static_cast<int>(level)]);
              std::string got(env.TextSize(style) + 1, '~');  // the last byte must stay
              char* end = env.Render(board, style, got.data());
              CHECK(end == got.data() + got.size() - 1 && got.back() == '~');
              CHECK(got.substr(0, got.size() - 1) == text);
            }
            SetSimdLevel("best");
          }
        }
        env.Restart(board);
        CHECK(slow::FromBoard(env, board).open == expected.start);
      }
    }
  });
}

template <int kWords>
void TestSymmetries() {
  ForEachSize<kWords>([](int height, int width) {
    const mines::Grid<kWords> grid(height, width);
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      Rng rng(seed, 2, 0);
      const auto set = mines::DrawCells(grid, height * width / 2, {}, 0, rng);
      std::set<std::set<int>> got, expected;
      const auto images = mines::Images(grid, set);
      for (int i = 0; i < (height == width ? 8 : 4); ++i) got.insert(slow::Cells(grid, images[i]));
      for (int i = 0; i < (height == width ? 8 : 4); ++i) {
        expected.insert(slow::Image(height, width, i, slow::Cells(grid, set)));
      }
      CHECK(got == expected);
      // All images of a pair have one canonical form.
      const auto other = mines::Images(grid, mines::DrawCells(grid, 1, {}, 0, rng));
      const auto form = mines::Canonicalize(grid, images[0], other[0]);
      for (int i = 1; i < (height == width ? 8 : 4); ++i) {
        const auto image = mines::Canonicalize(grid, images[i], other[i]);
        CHECK(image.mines == form.mines && image.other == form.other);
      }
    }
  });
}

// Every task by brute force over mines, first cells and symmetries.
void TestTaskCounts() {
  for (const auto& [side, num_mines] : {std::pair{3, 2}, {4, 2}, {4, 3}, {5, 3}}) {
    const Minesweeper env(Config(side, side, num_mines));
    const auto tasks = slow::AllTasks(side, side, num_mines);
    CHECK(*env.CountTasks(Split::kNone) == tasks);
    std::uint64_t sum = 0;
    for (Split split : {Split::kTrain, Split::kValid, Split::kTest}) sum += *env.CountTasks(split);
    CHECK(sum == tasks);
  }
  const Minesweeper oblong(Config(3, 4, 2));
  CHECK(*oblong.CountTasks(Split::kNone) == slow::AllTasks(3, 4, 2));
  CHECK(!Minesweeper(Config(8, 8, 10)).CountTasks(Split::kNone).has_value());
  std::set<std::uint64_t> seen;
  const Minesweeper env(Config(4, 4, 2));
  Minesweeper::Board board;
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    env.Generate(board, seed);
    seen.insert(env.Task(board));
  }
  CHECK(seen.size() == *env.CountTasks(Split::kNone));
}

// Each cell is a mine equally often, given where the first cell is.
void TestUniform() {
  constexpr int kDraws = 200'000;
  MinesweeperConfig config = Config(3, 3, 3);
  config.first_click = mines::FirstClick::kAgent;
  const Minesweeper env(config);
  std::vector<int> before(9), after(9);
  for (std::uint64_t seed = 0; seed < kDraws; ++seed) {
    Minesweeper::Board board;
    env.Generate(board, seed);
    for (int cell : slow::Cells(env.grid(), board.mines)) ++before[cell];
    const std::uint64_t task = env.Task(board);
    const StepOut out = env.Step(board, 4);
    CHECK(!out.dead && env.Task(board) == task);
    for (int cell : slow::Cells(env.grid(), board.mines)) ++after[cell];
    const auto opened = board.opened;
    env.Restart(board);
    CHECK(board.opened.None() && env.Task(board) == task);
    env.Step(board, 4);
    CHECK(board.opened == opened);
  }
  for (int cell = 0; cell < 9; ++cell) {  // 5 standard deviations of a binomial count
    CHECK(std::abs(before[cell] - kDraws * 3 / 9) < 5 * 211);
    CHECK(cell == 4 ? after[cell] == 0 : std::abs(after[cell] - kDraws * 3 / 8) < 5 * 217);
  }
}

template <typename Fn>
bool Throws(Fn&& fn) {
  try {
    fn();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void TestBadConfigs() {
  CHECK(Throws([] { Minesweeper env(Config(9, 8, 3)); }));
  CHECK(Throws([] { MinesweeperLarge env(Config(17, 8, 3)); }));
  CHECK(Throws([] { Minesweeper env(Config(0, 8, 1)); }));
  CHECK(Throws([] { Minesweeper env(Config(4, 4, 15)); }));
  CHECK(Throws([] { Minesweeper env(Config(4, 4, 0)); }));
  MinesweeperConfig config = Config(2, 2, 2);  // two mines in four cells: always a guess
  config.no_guess = true;
  const Minesweeper env(config);
  Minesweeper::Board board;
  CHECK(Throws([&] { env.Generate(board, 0); }));
}

// Snapshots of random play load to the same board; damaged ones are refused or load to a sound board.
template <int kWords>
void TestSnapshots(mines::FirstClick first_click, std::uint64_t num_steps) {
  using Env = MinesweeperOf<kWords>;
  MinesweeperConfig config = kWords == 1 ? Config(6, 6, 4) : Config(9, 10, 12);
  config.first_click = first_click;
  const Env env(config);
  typename Env::Board board, copy;
  std::vector<char> record(Env::kRecordSize), again(Env::kRecordSize);
  Rng rng(7, 3, 0);
  for (std::uint64_t step = 0; step < num_steps; ++step) {
    if (board.done) env.Generate(board, rng.Next());
    env.Step(board, static_cast<std::int32_t>(rng.Below(static_cast<std::uint32_t>(env.num_actions()))));
    if (step % 8 != 0) continue;
    env.Save(board, record.data());
    env.Check(record.data());
    env.Load(copy, record.data());
    env.Save(copy, again.data());
    CHECK(record == again && copy.done == board.done && copy.success == board.success &&
          copy.dead == board.dead);
    const std::size_t at = rng.Below(static_cast<std::uint32_t>(record.size()));
    record[at] = static_cast<char>(record[at] ^ 1 << rng.Below(8));
    if (Throws([&] { env.Check(record.data()); })) continue;
    env.Load(copy, record.data());
    std::vector<double> probabilities(static_cast<std::size_t>(env.num_actions()));
    env.FindMineProbabilities(copy, probabilities);
    CHECK(copy.done == (env.ExpertAction(copy) == -1));
    env.Restart(copy);
    CHECK(copy.mines.Count() == config.num_mines || copy.mines.None());
  }
}

}  // namespace
}  // namespace lamer

int main() {
  using namespace lamer;
  TestPlay<1>();
  TestPlay<4>();
  TestSymmetries<1>();
  TestSymmetries<4>();
  TestTaskCounts();
  TestUniform();
  TestBadConfigs();
  const char* fuzz_steps = std::getenv("LAMER_FUZZ_STEPS");
  const std::uint64_t num_steps = fuzz_steps != nullptr ? std::strtoull(fuzz_steps, nullptr, 10) : 1'000'000;
  for (auto first_click : {mines::FirstClick::kEnv, mines::FirstClick::kAgent}) {
    TestSnapshots<1>(first_click, num_steps / 4);
    TestSnapshots<4>(first_click, num_steps / 4);
  }
}
