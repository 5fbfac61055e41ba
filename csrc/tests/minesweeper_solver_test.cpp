// Probabilities, safe cells and boards without guesses against enumeration of all layouts.
#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "envs/minesweeper/rules.h"
#include "tests/check.h"
#include "tests/minesweeper_slow.h"

namespace lamer {
namespace {

template <int kWords>
mines::View<kWords> ViewOf(const MinesweeperOf<kWords>& env,
                           const typename MinesweeperOf<kWords>::Board& board) {
  return {board.opened, mines::CountNeighbours(board.mines), env.config().num_mines};
}

struct Expected {
  std::vector<double> probabilities;
  double layouts = 0.0;
};

// Layouts that show the same numbers at the open cells, all equally likely.
Expected Enumerate(const slow::Board& board) {
  const int num_cells = board.height * board.width;
  Expected result{std::vector<double>(static_cast<std::size_t>(num_cells)), 0.0};
  std::map<int, int> numbers;
  std::vector<int> hidden;
  for (int cell : board.open) numbers[cell] = board.Number(cell);
  for (int cell = 0; cell < num_cells; ++cell) {
    if (board.open.count(cell) == 0) hidden.push_back(cell);
  }
  slow::ForEachLayout(static_cast<int>(hidden.size()), static_cast<int>(board.mines.size()),
                      [&](const std::set<int>& picks) {
                        slow::Board other{board.height, board.width, {}, {}, {}};
                        for (int pick : picks) other.mines.insert(hidden[pick]);
                        for (const auto& [cell, number] : numbers) {
                          if (other.Number(cell) != number) return;
                        }
                        result.layouts += 1.0;
                        for (int cell : other.mines) result.probabilities[cell] += 1.0;
                      });
  for (double& p : result.probabilities) p /= result.layouts;
  return result;
}

template <typename Env>
void CheckPosition(const Env& env, const typename Env::Board& board, const Expected& expected) {
  std::vector<double> got(expected.probabilities.size());
  CHECK(env.FindMineProbabilities(board, got));
  double lowest = 1.0;
  const slow::Board seen = slow::FromBoard(env, board);
  for (std::size_t cell = 0; cell < got.size(); ++cell) {
    CHECK(std::abs(got[cell] - expected.probabilities[cell]) < 1e-12);
    CHECK((got[cell] == 0.0) == (expected.probabilities[cell] == 0.0));
    CHECK((got[cell] == 1.0) == (expected.probabilities[cell] == 1.0));
    if (seen.open.count(static_cast<int>(cell)) == 0) lowest = std::min(lowest, expected.probabilities[cell]);
  }
  CHECK(std::abs(expected.probabilities[env.ExpertAction(board)] - lowest) < 1e-12);
  const auto view = ViewOf(env, board);
  const auto safe = slow::Cells(env.grid(), mines::ProvablySafe(env.grid(), view, board.mines, false));
  for (int cell = 0; cell < static_cast<int>(got.size()); ++cell) {
    CHECK((safe.count(cell) != 0) == (seen.open.count(cell) == 0 && expected.probabilities[cell] == 0.0));
  }
}

// One position on boards of one word and of four.
void TestAgainstEnumeration(int height, int width, int num_mines, int num_boards) {
  MinesweeperConfig config;
  config.height = height;
  config.width = width;
  config.num_mines = num_mines;
  const Minesweeper env(config);
  const MinesweeperLarge large(config);
  for (int seed = 0; seed < num_boards; ++seed) {
    Minesweeper::Board board;
    MinesweeperLarge::Board large_board;
    env.Generate(board, static_cast<std::uint64_t>(seed));
    large.Generate(large_board, static_cast<std::uint64_t>(seed));
    Rng rng(static_cast<std::uint64_t>(seed), 5, 0);
    while (!board.done) {
      const Expected expected = Enumerate(slow::FromBoard(env, board));
      CheckPosition(env, board, expected);
      CheckPosition(large, large_board, expected);
      std::vector<int> free;  // opens any free cell, so that many different borders occur
      for (int cell = 0; cell < height * width; ++cell) {
        const auto bit = mines::Bits<1>::One(env.grid().bit_of[cell]);
        if (((board.mines | board.opened) & bit).None()) free.push_back(cell);
      }
      const int action = free[rng.Below(static_cast<std::uint32_t>(free.size()))];
      env.Step(board, action);
      large.Step(large_board, action);
    }
  }
}

// Where enumeration is out of reach: both engines agree on what is safe, and probabilities sum to the mines.
template <int kWords>
void TestEnginesAgree(int side, int num_mines, int num_boards) {
  MinesweeperConfig config;
  config.height = config.width = side;
  config.num_mines = num_mines;
  const MinesweeperOf<kWords> env(config);
  std::vector<double> p(static_cast<std::size_t>(side * side));
  for (int seed = 0; seed < num_boards; ++seed) {
    typename MinesweeperOf<kWords>::Board board;
    env.Generate(board, static_cast<std::uint64_t>(seed));
    while (!board.done) {
      if (!env.FindMineProbabilities(board, p)) break;
      double sum = 0.0;
      for (double value : p) sum += value;
      CHECK(std::abs(sum - num_mines) < 1e-9 * num_mines);
      const auto view = ViewOf(env, board);
      const auto safe = mines::ProvablySafe(env.grid(), view, board.mines, false);
      for (int cell = 0; cell < side * side; ++cell) {
        const int bit = env.grid().bit_of[cell];
        CHECK(board.opened.Test(bit) || safe.Test(bit) == (p[cell] == 0.0));
        CHECK(!(p[cell] == 0.0 && board.mines.Test(bit)) && !(p[cell] == 1.0 && !board.mines.Test(bit)));
      }
      env.Step(board, env.ExpertAction(board));
    }
  }
}

// A board without guesses is won by cells of probability 0; a rejected one has a position that has none.
void TestNoGuess(int side, int num_mines, int num_boards) {
  MinesweeperConfig config;
  config.height = config.width = side;
  config.num_mines = num_mines;
  const Minesweeper any(config);
  config.no_guess = true;
  const Minesweeper no_guess(config);
  std::vector<double> p(static_cast<std::size_t>(side * side));
  const auto won_without_guess = [&](Minesweeper::Board board) {
    while (!board.done) {
      any.FindMineProbabilities(board, p);
      int action = 0;
      while (action < side * side && (p[action] != 0.0 || board.opened.Test(any.grid().bit_of[action])))
        ++action;
      if (action == side * side) return false;
      any.Step(board, action);
    }
    return board.success;
  };
  int accepted = 0;
  for (int seed = 0; seed < num_boards; ++seed) {
    Minesweeper::Board board;
    no_guess.Generate(board, static_cast<std::uint64_t>(seed));
    CHECK(won_without_guess(board));
    any.Generate(board, static_cast<std::uint64_t>(seed));
    const bool needs_none = mines::NeedsNoGuess(any.grid(), {board.mines, board.start});
    CHECK(needs_none == mines::NeedsNoGuessPortable(any.grid(), mines::Level<1>{board.mines, board.start}));
    CHECK(needs_none == won_without_guess(board));
    accepted += needs_none;
  }
  CHECK(accepted > 0 && accepted < num_boards);
}

// Without a work budget every component is estimated, and says so; with a small one, some are.
void TestEstimate() {
  MinesweeperConfig config;
  config.height = config.width = 16;
  config.num_mines = 51;
  const MinesweeperLarge env(config);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    MinesweeperLarge::Board board;
    env.Generate(board, seed);
    for (int cell = 0; cell < 256; cell += 7) {
      if (!board.mines.Test(env.grid().bit_of[cell])) env.Step(board, cell);
    }
    const auto view = ViewOf(env, board);
    for (std::size_t budget : {std::size_t{0}, std::size_t{1000}}) {
      const auto found = mines::FindMineProbabilities(env.grid(), view, budget);
      CHECK(budget != 0 || !found.exact);
      for (double value : found.at) CHECK(value >= 0.0 && value <= 1.0);
    }
  }
}

}  // namespace
}  // namespace lamer

int main() {
  using namespace lamer;
  TestAgainstEnumeration(3, 3, 2, 200);
  TestAgainstEnumeration(4, 4, 4, 60);
  TestAgainstEnumeration(5, 5, 4, 12);
  TestAgainstEnumeration(3, 6, 5, 20);
  TestAgainstEnumeration(1, 8, 3, 50);
  TestEnginesAgree<1>(6, 5, 300);
  TestEnginesAgree<1>(8, 10, 200);
  TestEnginesAgree<4>(16, 40, 8);
  TestNoGuess(6, 3, 2000);
  TestNoGuess(8, 10, 500);
  TestEstimate();
}
