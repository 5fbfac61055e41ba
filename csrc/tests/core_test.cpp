// The core: random numbers, splits, reply parser, thread pool; turns, resets and bad input of a batch.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/batch_env.h"
#include "core/simd.h"
#include "core/tasks.h"
#include "tests/check.h"

namespace lamer {
namespace {

// Counts down from seed % 3 + 3 by 1 or 2; the smallest Env there can be.
class Countdown {
 public:
  struct Config {};
  struct Board {
    std::int32_t left = 0, start = 0;
    bool done = true, success = false, dead = false;
  };

  explicit Countdown(const Config&) {}
  std::uint64_t Fingerprint() const { return 17; }
  int num_actions() const { return 2; }
  void Generate(Board& board, std::uint64_t seed, Split split) const {
    for (std::uint64_t draw = 0; draw < 3; ++draw) {
      board.start = static_cast<std::int32_t>((seed + draw) % 3 + 3);
      Restart(board);
      if (InSplit(Task(board), split)) return;
    }
    FailSplit(split, seed);
  }
  void Restart(Board& board) const { board = {board.start, board.start, false, false, false}; }
  StepOut Step(Board& board, std::int32_t action) const {
    board.left -= action + 1;
    board.done = board.left <= 0;
    return {static_cast<float>(action), board.done, board.left == 0, false};
  }
  std::size_t TextSize(Style) const { return 0; }
  std::size_t TextSize(const Board& board, Style) const { return static_cast<std::size_t>(board.start); }
  char* Render(const Board& board, Style, char* out) const { return std::fill_n(out, board.start, 'x'); }
  std::int64_t Anchor(const Board& board) const { return board.left; }
  std::uint64_t Task(const Board& board) const { return Mix64(static_cast<std::uint64_t>(board.start)); }
  void LegalActions(const Board& board, bool* out) const { out[0] = out[1] = !board.done; }
  std::int32_t ExpertAction(Board& board) const { return board.done ? -1 : 0; }
  ParseOut Parse(std::string_view reply, bool strict, std::span<std::int32_t> out) const {
    return ParseMoves(reply, strict, out);
  }
  static constexpr std::size_t kRecordSize = sizeof(Board);
  void Save(const Board& board, char* out) const { std::memcpy(out, &board, sizeof board); }
  void Check(const char* data) const {
    if (data[sizeof(std::int32_t)] < 3) throw std::invalid_argument("start");
  }
  void Load(Board& board, const char* data) const { std::memcpy(&board, data, sizeof board); }
  std::optional<std::uint64_t> CountTasks(Split) const { return std::nullopt; }
};

// One batch with room for the results of a turn.
struct Player {
  Player(std::size_t num_envs, const BatchConfig& config, std::vector<std::uint64_t> seeds)
      : batch(static_cast<std::int64_t>(num_envs), {}, config), num_envs(num_envs) {
    batch.Reset(seeds, EnvIdx(num_envs));
  }

  void Turn(const std::vector<std::int32_t>& actions, std::size_t k,
            const std::vector<std::int32_t>& lengths = {}) {
    per_action.assign(num_envs * k, -7.0f);
    const TurnOut out{per_action.data(), rewards, executed, done, success, dead};
    batch.Step(actions, k, lengths, EnvIdx(num_envs), out);
  }

  BatchEnv<Countdown> batch;
  std::size_t num_envs;
  std::vector<float> per_action;
  float rewards[8];
  std::int32_t executed[8];
  bool done[8], success[8], dead[8];
};

template <typename Fn>
std::string ErrorOf(Fn&& fn) {
  try {
    fn();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

void TestRng() {
  // The first output of SplitMix64 of seed 0, as published; the others from a Python version of rng.h.
  CHECK(Mix64(0x9e3779b97f4a7c15ULL) == 0xe220a8397b1dcdafULL);
  CHECK(Mix64(1) == 0x5692161d100b05e5ULL && HashCombine(1, 2) == 0xf4086ec62254e37fULL);
  Rng zero(0, 0, 0), keyed(12345, 7, 3);
  for (std::uint64_t value : {0x304ce91fe1db6181ULL, 0x4a7c87e0cac04496ULL, 0x7cefc2a91da3dc5aULL}) {
    CHECK(zero.Next() == value);
  }
  for (std::uint64_t value : {0xd651602bcb57b2aeULL, 0xed7cc3ef652ec027ULL, 0xd0f4bfb9b932b222ULL}) {
    CHECK(keyed.Next() == value);
  }
  Rng small(1, 2, 3), large(1, 2, 3);
  for (std::uint32_t value : {3u, 6u, 2u, 3u, 3u, 8u, 9u, 6u, 7u, 5u, 6u, 4u})
    CHECK(small.Below(10) == value);
  for (std::uint32_t value : {955416258u, 2065607361u, 803686188u, 936280671u}) {
    CHECK(large.Below(3'000'000'000u) == value);
  }
  // Every value equally often: 6 standard deviations.
  Rng rng(0, 1, 0);
  std::vector<int> counts(7);
  for (int i = 0; i < 70'000; ++i) ++counts[rng.Below(7)];
  for (int count : counts) CHECK(std::abs(count - 10'000) < 6 * 93);
}

void TestSplit() {
  int counts[4] = {};
  for (std::uint64_t i = 0; i < 100'000; ++i) ++counts[static_cast<int>(SplitOf(Mix64(i)))];
  CHECK(counts[0] == 0 && std::abs(counts[1] - 80'000) < 800 && std::abs(counts[2] - 10'000) < 600 &&
        std::abs(counts[3] - 10'000) < 600);
}

void TestParser() {
  const auto moves = [](std::string_view reply, bool strict) {
    std::int32_t out[3] = {-9, -9, -9};
    const ParseOut parsed = ParseMoves(reply, strict, out);
    std::string text = parsed.valid ? "" : "invalid ";
    for (std::int32_t i = 0; i < parsed.length; ++i) text += std::to_string(out[i]);
    return text;
  };
  CHECK(moves("<action>up, left</action>", false) == "02");
  CHECK(moves("<action>up, left</action>", true) == "02");
  CHECK(moves("x <action>UP,Down ,still</action> y", true) == "014");
  CHECK(moves("<action>go up!, then right</action>", false) == "03");
  CHECK(moves("<action>go up!, then right</action>", true) == "invalid -1");
  CHECK(moves("<action>up,up,up,down</action>", false) == "000");
  CHECK(moves("<action>up,up,up,down</action>", true) == "invalid -1");
  CHECK(moves("<action>upward</action>", false) == "invalid -1");
  CHECK(moves("<action>?, left</action>", false) == "2");
  CHECK(moves("<action>up</action> or <action>down</action>", false) == "0");
  CHECK(moves("<action>up</action> or <action>down</action>", true) == "invalid -1");
  for (const char* bad :
       {"", "up", "<action>", "</action>up<action>", "<action></action>", "<action>,</action>"}) {
    CHECK(moves(bad, false) == "invalid -1" && moves(bad, true) == "invalid -1");
  }
  // Nothing before the last </think> counts.
  CHECK(moves("<think>maybe <action>left</action></think><action>right</action>", true) == "3");
  CHECK(moves("<action>left</action></think> <action>right</action>", false) == "3");
  CHECK(moves("<think>a</think><think><action>up</action></think><action>down</action>", false) == "1");
  CHECK(moves("<action>up</action></think>", false) == "invalid -1");
  CHECK(moves("<action>up</think></action>", false) == "invalid -1");
  CHECK(moves("<think><action>up</action>", false) == "0");
  const auto cell = [](std::string_view reply, bool strict) {
    std::int32_t out[1];
    const ParseOut parsed = ParseCell(reply, strict, 4, 6, out);
    return (parsed.valid ? "" : "invalid ") + std::to_string(out[0]);
  };
  CHECK(cell("<action>(2, 3)</action>", false) == "8" && cell("<action> (2,3) </action>", true) == "8");
  CHECK(cell("<action>open ( 4 ,6 ) or (1, 1)</action>", false) == "23");
  CHECK(cell("<action>open (4, 6)</action>", true) == "invalid -1");
  CHECK(cell("<action>(5, 1)</action>", false) == "-1" && cell("<action>(0, 1)</action>", true) == "-1");
  CHECK(cell("<action>(-2, 1)</action>", false) == "-1");
  CHECK(cell("<action>(99999999999999999999, 1)</action>", false) == "-1");
  CHECK(cell("<action>(1 1)((1,2)</action>", false) == "1");
  CHECK(cell("<think>try <action>(3,3)</action></think> <action>(1,2)</action>", true) == "1");
  CHECK(cell("<action>(a, 1)</action>", false) == "invalid -1" && cell("(1, 1)", false) == "invalid -1");
}

void TestThreadPool() {
  for (int num_threads : {1, 2, 3, 5}) {
    ThreadPool pool(num_threads);
    for (std::size_t n : {0, 1, 2, 7, 100, 1001}) {
      std::vector<int> hits(n);
      pool.For(n, 3, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) ++hits[i];
      });
      for (int hit : hits) CHECK(hit == 1);
    }
    CHECK(ErrorOf([&] {
            pool.For(100, 1, [](std::size_t, std::size_t end) {
              if (end == 100) throw std::invalid_argument("last chunk");
            });
          }) == "last chunk");
  }
}

// The child of a fork has none of the parent's threads: its pool starts new ones, and both go on working.
void TestFork() {
  // QEMU's user mode ends a forked child that starts threads ("cpu == current_cpu").
  if (std::getenv("LAMER_EMULATED") != nullptr) return;
  ThreadPool pool(3);
  const auto sum = [&] {
    std::atomic<std::size_t> total{0};
    pool.For(1000, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) total += i;
    });
    return total.load();
  };
  CHECK(sum() == 499'500);
  const pid_t child = fork();
  if (child == 0) _exit(sum() == 499'500 ? 0 : 1);
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(sum() == 499'500);
}

void TestTurns() {
  Player p(3, {}, {0, 1, 2});  // 3, 4 and 5 to count
  p.Turn({1, 0, 1, 1, 1, 0, 0, 0, 0}, 3, {3, 3, 1});
  CHECK(p.executed[0] == 2 && p.done[0] && p.success[0] && p.rewards[0] == 1.0f && p.per_action[2] == 0.0f);
  CHECK(p.executed[1] == 2 && p.done[1] && p.success[1] && p.rewards[1] == 2.0f);
  CHECK(p.executed[2] == 1 && !p.done[2] && p.rewards[2] == 0.0f && p.per_action[7] == 0.0f);
  p.Turn({1, 1, 1}, 1);
  CHECK(p.executed[0] == 0 && p.done[0] && p.success[0] && p.rewards[0] == 0.0f);
  CHECK(p.executed[2] == 1 && p.rewards[2] == 1.0f);

  BatchConfig official;
  official.last_reward = true;
  official.stop_at_done = false;
  Player q(1, official, {0});
  q.Turn({1, 0, 0, 1}, 4);
  CHECK(q.executed[0] == 4 && q.done[0] && q.success[0] && q.rewards[0] == 1.0f);
}

void TestAutoreset() {
  BatchConfig same, next;
  same.autoreset = Autoreset::kSame;
  next.autoreset = Autoreset::kNext;
  Player s(1, same, {0}), n(1, next, {0});
  const std::int32_t second = static_cast<std::int32_t>(NextSeed(0) % 3 + 3);
  for (Player* p : {&s, &n}) {
    p->Turn({1, 0}, 2);
    CHECK(p->done[0] && p->success[0]);
  }
  CHECK(s.batch.board(0).left == second && !s.batch.board(0).done && n.batch.board(0).done);
  n.Turn({1, 1}, 2);
  CHECK(n.executed[0] == 0 && !n.done[0] && !n.success[0] && n.batch.board(0).left == second);
}

void TestBadInput() {
  Player p(3, {}, {0, 1, 2});
  CHECK(ErrorOf([&] { p.Turn({0, 2, 0}, 1); }) == "actions[1, 0] is 2, expected -1 to 1");
  CHECK(ErrorOf([&] { p.Turn({0, -2, 0}, 1); }) == "actions[1, 0] is -2, expected -1 to 1");
  CHECK(ErrorOf([&] { p.Turn({0, 0, 0}, 1, {1, 2, 1}); }) == "lengths[1] is 2, expected 0 to 1");
  CHECK(ErrorOf([&] { p.Turn({0, 0}, 1); }) == "actions has 2 values, expected 3");
  p.Turn({0, 5, 0}, 1, {1, 0, 1});  // what lies beyond a length is not looked at
  const std::vector<std::int64_t> twice{0, 2, 0}, outside{0, 3};
  CHECK(ErrorOf([&] { p.batch.Restart(EnvIdx(twice)); }) ==
        "env_idx names board 0 twice, again at position 2");
  CHECK(ErrorOf([&] { p.batch.Restart(EnvIdx(outside)); }) == "env_idx[1] is 3, but num_envs is 3");

  std::vector<char> data(p.batch.SnapshotSize(3));
  p.batch.Snapshot(EnvIdx(3), data);
  p.Turn({0, 0, 0}, 1);
  const std::int32_t left = p.batch.board(0).left;
  for (std::size_t size = 0; size < data.size(); ++size) {
    CHECK(ErrorOf([&] { p.batch.Restore({data.data(), size}, EnvIdx(3)); }) != "");
  }
  for (std::size_t i = 0; i < data.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<char> changed = data;
      changed[i] = static_cast<char>(changed[i] ^ 1 << bit);
      CHECK(ErrorOf([&] { p.batch.Restore(changed, EnvIdx(3)); }) != "");
    }
  }
  CHECK(p.batch.board(0).left == left);
  BatchConfig other;
  other.stop_at_done = false;
  Player q(3, other, {0, 1, 2});
  CHECK(ErrorOf([&] { q.batch.Restore(data, EnvIdx(3)); }).starts_with("snapshot: the fingerprint"));
  p.batch.Restore(data, EnvIdx(3));
  CHECK(p.batch.board(0).left == left + 1);
}

void TestTasks() {
  const Countdown env({});
  CHECK(DistinctSeeds(env, Split::kNone, 100, 50) == std::vector<std::uint64_t>({0, 1, 2}));
  CHECK(DistinctSeeds(env, Split::kNone, 2, 50) == std::vector<std::uint64_t>({0, 1}));
  CHECK(NumTasks(env, Split::kNone, 1000) == std::make_pair(std::uint64_t{3}, false));
  std::uint64_t total = 0;
  for (Split split : {Split::kTrain, Split::kValid, Split::kTest}) {
    if (ErrorOf([&] { total += DistinctSeeds(env, split, 100, 50).size(); }) == "") continue;
    CHECK(NumTasks(env, split, 1000).first == 0);  // an empty split says so
  }
  CHECK(total == 3);
}

void TestSimdLevels() {
  SetSimdLevel("scalar");
  CHECK(ActiveSimd() == Simd::kScalar);
  SetSimdLevel("best");
  CHECK(ActiveSimd() == BestSimd());
  CHECK(ErrorOf([] { SetSimdLevel("sse9"); }) != "");
}

}  // namespace
}  // namespace lamer

int main() {
  using namespace lamer;
  TestRng();
  TestSplit();
  TestParser();
  TestThreadPool();
  TestFork();
  TestTurns();
  TestAutoreset();
  TestBadInput();
  TestTasks();
  TestSimdLevels();
}
