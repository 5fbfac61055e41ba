// Sokoban against slow code on characters: rules, rewards, optima, symmetries, texts, level files.
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/batch_env.h"
#include "envs/sokoban/rules.h"
#include "tests/check.h"
#include "tests/sokoban_slow.h"

namespace lamer {
namespace {

std::string Text(const Sokoban& env, const Sokoban::Board& board, Style style = Style::kCompact) {
  std::string text(env.TextSize(board, style), '\0');
  CHECK(env.Render(board, style, text.data()) == text.data() + text.size());
  return text;
}

Sokoban::Config Config(int height, int width, int num_boxes) {
  Sokoban::Config config;
  config.height = height;
  config.width = width;
  config.num_boxes = num_boxes;
  return config;
}

void TestOptimum(int height, int width, int num_boxes, int num_boards) {
  const auto config = Config(height, width, num_boxes);
  const Sokoban env(config);
  Sokoban::Board board;
  for (int seed = 0; seed < num_boards; ++seed) {
    env.Generate(board, static_cast<std::uint64_t>(seed));
    const std::string text = Text(env, board);
    const int optimum = SlowSokoban(text).Solve();
    CHECK(optimum >= config.min_moves && optimum <= config.max_moves);
    CHECK(env.Distance(board) == optimum);
    CHECK(text.find('*') == text.npos);
    for (int left = optimum; left > 0; --left) {
      const auto search = sokoban::BoundedSearch(board.floor, board.targets, board.boxes, board.player);
      CHECK(search.distance == left);
      CHECK(search.action == env.ExpertAction(board));
      env.Step(board, search.action);
    }
    CHECK(board.done && env.ExpertAction(board) == -1);
    env.Restart(board);
    CHECK(Text(env, board) == text && !board.done);
  }
}

bool Refuses(const Sokoban& env, const char* record) {
  try {
    env.Check(record);
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

// Every action's text, flags and reward; deadness against the forward search.
void TestPlay(int height, int width, int num_boxes, int num_boards) {
  auto config = Config(height, width, num_boxes);
  config.track_dead = true;
  config.rewards = {.step = 1, .on = 2, .off = 4, .win = 8, .dead = 16, .invalid = 32};
  const Sokoban env(config);
  Sokoban::Board board;
  for (int seed = 0; seed < num_boards; ++seed) {
    env.Generate(board, static_cast<std::uint64_t>(seed));
    SlowSokoban slow(Text(env, board));
    Rng rng(static_cast<std::uint64_t>(seed), 1, 0);
    for (int step = 0; step < 30 && !board.done; ++step) {
      const int action = static_cast<int>(rng.Below(6)) - 1;
      bool legal[Sokoban::kNumActions];
      env.LegalActions(board, legal);
      const std::string before = slow.text();
      const bool was_dead = board.dead;
      const StepOut out = env.Step(board, action);
      const SlowStep expected = slow.Step(action);
      CHECK(Text(env, board) == slow.text());
      CHECK(action < 0 || action == 4 || legal[action] == (slow.text() != before));
      CHECK(out.success == expected.solved && out.done == expected.solved && board.done == out.done);
      if (expected.pushed && !was_dead) CHECK(board.dead == (slow.Solve() < 0));
      if (!expected.pushed) CHECK(board.dead == was_dead);
      const int reward = action < 0 ? 32
                                    : 1 + 2 * expected.on + 4 * expected.off + 8 * expected.solved +
                                          16 * (board.dead && !was_dead);
      CHECK(out.reward == static_cast<float>(reward));
    }
  }
}

// Rewards of the official turn rule: a win as last move, a win and a harmless move, a win that is undone.
void TestShapedRewards() {
  auto config = Config(6, 6, 1);
  config.levels =
      std::make_shared<sokoban::LevelSet>(sokoban::ReadLevels({"######\n#    #\n#@$. #\n######"}));
  BatchConfig official;
  official.last_reward = true;
  official.stop_at_done = false;
  BatchEnv<Sokoban> batch(1, config, official);
  const std::uint64_t seed = 0;
  float per_action[3], reward;
  std::int32_t executed;
  bool done, success, dead;
  const TurnOut out{per_action, &reward, &executed, &done, &success, &dead};
  const auto turn = [&](std::vector<std::int32_t> actions) {
    batch.Reset({&seed, 1}, EnvIdx(1));
    batch.Step(actions, actions.size(), {}, EnvIdx(1), out);
    CHECK(success && executed == static_cast<std::int32_t>(actions.size()));
    return reward;
  };
  CHECK(turn({3}) == 10.9f && done);
  CHECK(turn({3, 4}) == 9.9f && done);
  CHECK(turn({3, 3}) == -1.1f && !done);
}

// Under other controls a word does what the slow game does for the move that the rule gives it.
void TestControls(sokoban::Controls controls, bool show_moves) {
  auto config = Config(6, 6, 2);
  config.controls = controls;
  config.held_out_rules = true;
  config.show_moves = show_moves;
  const Sokoban env(config);
  auto named = config;
  named.controls = sokoban::Controls::kPlain;
  named.held_out_rules = named.show_moves = false;
  const Sokoban plain(named);
  Sokoban::Board board, same;
  std::vector<int> drawn[3];
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    const Split split = static_cast<Split>(1 + seed % 3);
    env.Generate(board, seed, split);
    plain.Generate(same, seed, split);
    CHECK(Text(env, board) == Text(plain, same) && env.Anchor(board) == plain.Anchor(same));
    CHECK(board.rule < sokoban::NumRules(controls) && sokoban::RuleInSplit(board.rule, split));
    CHECK(InSplit(env.Task(board), split) && (env.Task(board) == plain.Task(same)) == (board.rule == 0));
    drawn[seed % 3].push_back(board.rule);
    env.Generate(same, seed, split);
    CHECK(same.rule == board.rule);
    SlowSokoban slow(Text(env, board));
    Rng rng(seed, 1, 0);
    for (int step = 0; step < 12 && !board.done; ++step) {
      const int word = static_cast<int>(rng.Below(6)) - 1;
      bool legal[Sokoban::kNumActions];
      env.LegalActions(board, legal);
      for (const bool l : legal) CHECK(l);  // nothing that is listed tells the rule
      std::int64_t leads_to[Sokoban::kNumActions + 2];
      env.StateHashes(board, leads_to);
      CHECK(leads_to[0] == env.StateHash(board));
      const std::string before = slow.text();
      const int move = word < 0 ? -1 : sokoban::kRules[board.rule][static_cast<std::size_t>(word + 1)] - 1;
      env.Step(board, word);
      slow.Step(move);
      CHECK(Text(plain, board).substr(0, slow.text().size()) == slow.text());
      const char* names[] = {"up", "down", "left", "right", "still"};
      const std::string led = slow.text() == before ? "nothing" : names[move];
      const std::string line = word < 0 ? "" : std::string("\n") + names[word] + ": " + led;
      CHECK(Text(env, board) == slow.text() + (config.show_moves ? line : ""));
      CHECK(move < 0 || leads_to[move + 1] == env.StateHash(board));
    }
    const std::uint8_t rule = board.rule;
    char record[Sokoban::kRecordSize];
    env.Save(board, record);
    env.Check(record);
    env.Load(same, record);
    CHECK(same.rule == rule && Text(env, same) == Text(env, board));
    if (rule != 0) CHECK(Refuses(plain, record));
    env.Restart(board);
    CHECK(board.rule == rule && Text(env, board) == Text(plain, board));
    for (int left = env.Distance(board); left > 0; --left) {
      CHECK(env.Distance(board) == left);
      env.Step(board, env.ExpertAction(board));
    }
    CHECK(board.done);
  }
  for (auto& rules : drawn) {
    std::sort(rules.begin(), rules.end());
    rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
  }
  CHECK(drawn[1].size() == static_cast<std::size_t>(sokoban::NumRules(controls) / 6));
  CHECK(drawn[2].size() == drawn[1].size() && drawn[0].size() > 3 * drawn[1].size());
}

void TestSymmetries() {
  using namespace sokoban;
  const Sokoban env(Config(7, 9, 3));
  Sokoban::Board board;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    env.Generate(board, seed);
    const Level level{board.floor, board.targets, board.boxes, board.player};
    const std::uint64_t id = CanonicalId(level);
    CHECK(env.Task(board) == id);
    for (int symmetry = 0; symmetry < 8; ++symmetry) {
      const auto image = [&](Bits b) {
        if (symmetry & 4) b = Transpose(b);
        if (symmetry & 1) b = FlipRows(b);
        if (symmetry & 2) b = FlipColumns(b);
        return b;
      };
      CHECK(CanonicalId({image(level.floor), image(level.targets), image(level.boxes),
                         LowestCell(image(Bit(level.player)))}) == id);
    }
    // Any change of the level changes the id, up to symmetry of the level itself.
    const Bits free = level.floor & ~level.boxes & ~Bit(level.player);
    Level moved = level;
    moved.player = LowestCell(free);
    bool symmetric = false;
    for (int symmetry = 1; symmetry < 8; ++symmetry) {
      Bits floor = level.floor;
      if (symmetry & 4) floor = Transpose(floor);
      if (symmetry & 1) floor = FlipRows(floor);
      if (symmetry & 2) floor = FlipColumns(floor);
      symmetric |= std::popcount(floor ^ level.floor) == 0;
    }
    if (!symmetric) CHECK(CanonicalId(moved) != id);
  }
  // Cell by cell against the definition.
  for (int cell = 0; cell < kCells; ++cell) {
    const int y = cell / 8, x = cell % 8;
    CHECK(FlipRows(Bit(cell)) == Bit(8 * (7 - y) + x));
    CHECK(FlipColumns(Bit(cell)) == Bit(8 * y + 7 - x));
    CHECK(Transpose(Bit(cell)) == Bit(8 * x + y));
    for (int dir = 0; dir < 4; ++dir) {
      const int ty = y + (dir == 1) - (dir == 0), tx = x + (dir == 3) - (dir == 2);
      const bool inside = ty >= 0 && ty < 8 && tx >= 0 && tx < 8;
      CHECK(Shift(dir, Bit(cell)) == (inside ? Bit(8 * ty + tx) : 0));
    }
  }
}

void TestTexts() {
  for (int height = 4; height <= 10; ++height) {
    for (int width = 4; width <= 10; ++width) {
      if (height + width == 8) continue;  // 2x2 cells: no box can be pushed
      auto config = Config(height, width, 1);
      config.min_moves = 1;
      const Sokoban env(config);
      Sokoban::Board board;
      env.Generate(board, static_cast<std::uint64_t>(100 * height + width));
      for (int left = env.Distance(board);; --left) {
        SetSimdLevel("scalar");
        const std::string compact = Text(env, board), numbered = Text(env, board, Style::kNumbered),
                          peers = Text(env, board, Style::kPeers);
        for (Simd level : {Simd::kNeon, Simd::kAvx2, Simd::kAvx512}) {
          if (!HasSimd(level)) continue;
          SetSimdLevel(kSimdNames[static_cast<int>(level)]);
          CHECK(Text(env, board) == compact && Text(env, board, Style::kNumbered) == numbered &&
                Text(env, board, Style::kPeers) == peers);
        }
        std::string from_compact = "0:", from_numbered;
        for (char c : compact) {
          static_cast<void>(c == '\n' ? from_compact += c : (from_compact += ' ') += c);
          if (c == '\n')
            from_compact +=
                static_cast<char>('0' + std::count(from_compact.begin(), from_compact.end(), '\n')),
                from_compact += ':';
        }
        CHECK(from_compact == numbered);
        for (char c : numbered) c == '*' ? from_numbered += sokoban::kSquareRoot : from_numbered += c;
        CHECK(from_numbered == peers);
        if (left == 0) break;
        env.Step(board, env.ExpertAction(board));
      }
    }
  }
  CHECK(Sokoban(Config(6, 6, 2)).TextSize(Style::kCompact) == 41);
  CHECK(Sokoban(Config(6, 6, 2)).TextSize(Style::kNumbered) == 89);
  CHECK(Sokoban(Config(10, 10, 2)).TextSize(Style::kNumbered) == 229);
}

std::string LevelError(const std::string& text) {
  try {
    sokoban::ReadLevels({text});
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

void TestLevels() {
  const auto set = sokoban::ReadLevels(
      {"; 0\n#####\n#@$.#\n#####\n\nTitle\n  ####\n###  ####\n#     $ #\n# #  #$ #\n# . .#@ #\n#########\n",
       "####\r\n#+$#\r\n#  #\r\n####\r\n"});
  CHECK(set.levels.size() == 3 && set.height == 6 && set.width == 9);
  CHECK(std::popcount(set.levels[1].boxes) == 2 && std::popcount(set.levels[1].floor) == 20);
  Sokoban::Config config;
  config.levels = std::make_shared<sokoban::LevelSet>(set);
  const Sokoban env(config);
  Sokoban::Board board;
  env.Generate(board, 3);
  CHECK(Text(env, board).starts_with("#########\n#PXO#####\n#########"));
  env.Generate(board, 1);
  CHECK(env.Distance(board) == SlowSokoban(Text(env, board)).Solve());
  CHECK(env.CountTasks(Split::kNone) == 3u);
  CHECK(LevelError("#####\n#@$.#\n#@  #\n#####") == "level 0: it has 2 players, expected 1");
  CHECK(LevelError("#####\n#@$ #\n#####") == "level 0: it has 0 targets, expected as many as boxes, 1");
  CHECK(LevelError("####\n#@ #\n####") == "level 0: it has 0 boxes, expected 1 to 4");
  CHECK(LevelError("#####\n#@* #\n#####") == "level 0: all its boxes are on targets already");
  CHECK(LevelError("#####\n#@$. \n#####") != "");
  CHECK(LevelError("## ##\n#@$.#\n#####") != "");
  CHECK(LevelError("###########\n#@$.      #\n###########") == "level 0: it is 3x11, the largest is 10x10");
  CHECK(LevelError("nothing") == "levels: 0 levels in 1 texts, expected at least 1");
}

void TestTableMemory() {
  CHECK(sokoban::DistanceTable::Bytes(sokoban::InnerCells(10, 10), 2) <= sokoban::DistanceTable::kMaxBytes);
  CHECK(sokoban::DistanceTable::Bytes(sokoban::InnerCells(10, 10), 3) > sokoban::DistanceTable::kMaxBytes);
}

void TestImpossibleWindow() {
  auto config = Config(6, 6, 1);
  config.min_moves = 200;
  config.max_moves = 300;
  const Sokoban env(config);
  Sokoban::Board board;
  bool thrown = false;
  try {
    env.Generate(board, 5);
  } catch (const GenerationError&) {
    thrown = true;
  }
  CHECK(thrown);
}

}  // namespace
}  // namespace lamer

int main() {
  using namespace lamer;
  // 2,000 boards by default, 20,000 with ten times the steps.
  const char* fuzz_steps = std::getenv("LAMER_FUZZ_STEPS");
  const int scale =
      fuzz_steps != nullptr ? static_cast<int>(std::strtoull(fuzz_steps, nullptr, 10) / 1'000'000) : 1;
  TestOptimum(6, 6, 1, 800 * scale);
  TestOptimum(6, 6, 2, 1000 * scale);
  TestOptimum(6, 6, 3, 80 * scale);
  TestOptimum(4, 9, 1, 60 * scale);
  TestOptimum(8, 8, 2, 20 * scale);
  TestOptimum(10, 10, 1, 40 * scale);
  TestPlay(6, 6, 1, 100);
  TestPlay(6, 6, 2, 60);
  TestPlay(10, 10, 1, 10);
  TestShapedRewards();
  TestSymmetries();
  TestControls(sokoban::Controls::kPermuted, false);
  TestControls(sokoban::Controls::kBroken, true);
  TestTexts();
  TestLevels();
  TestTableMemory();
  TestImpossibleWindow();
}
