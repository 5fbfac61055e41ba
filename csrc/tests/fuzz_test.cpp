// Random play, snapshots, level files and replies through BatchEnv, made to run under the sanitizers: buffers
// have exactly the size that is asked for, so that one byte too many shows. LAMER_FUZZ_STEPS: random actions.
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "core/batch_env.h"
#include "envs/minesweeper/rules.h"
#include "envs/sokoban/rules.h"
#include "tests/check.h"

namespace lamer {
namespace {

template <typename T>
std::unique_ptr<T[]> Buffer(std::size_t size) {
  return std::unique_ptr<T[]>(new T[size]);
}

template <typename Env>
class Fuzzer {
 public:
  Fuzzer(const typename Env::Config& config, const BatchConfig& batch, std::uint64_t seed)
      : batch_(kNumEnvs, config, batch), rng_(seed, 0, 0) {
    auto seeds = Buffer<std::uint64_t>(kNumEnvs);
    for (std::size_t i = 0; i < kNumEnvs; ++i) seeds[i] = rng_.Next();
    batch_.Reset({seeds.get(), kNumEnvs}, EnvIdx(kNumEnvs));
  }

  void Run(std::uint64_t num_steps) {
    for (std::uint64_t steps = 0; steps < num_steps;) {
      const auto idx = SomeBoards();
      steps += Turn(EnvIdx(idx));
      switch (Random(12)) {
        case 0:
          Look(EnvIdx(idx));
          break;
        case 1:
          batch_.Restart(EnvIdx(idx));
          break;
        case 2:
          ReplaySnapshot();
          break;
        case 3:
          BreakSnapshot();
          break;
        case 4:
          ReplaceOne();
          break;
        default:
          break;
      }
    }
  }

 private:
  static constexpr std::size_t kNumEnvs = 24;

  std::uint32_t Random(std::size_t bound) { return rng_.Below(static_cast<std::uint32_t>(bound)); }

  std::vector<std::int64_t> SomeBoards() {
    std::vector<std::int64_t> idx;
    const std::uint32_t share = 1 + Random(4);
    for (std::size_t i = 0; i < kNumEnvs; ++i) {
      if (Random(4) < share) idx.push_back(static_cast<std::int64_t>(i));
    }
    return idx;
  }

  // Random actions; one board in three plays its expert's. The number of actions asked for.
  std::uint64_t Turn(EnvIdx idx) {
    const std::size_t num_boards = idx.size(), k = 1 + Random(4);
    auto actions = Buffer<std::int32_t>(num_boards * k);
    auto lengths = Buffer<std::int32_t>(num_boards), executed = Buffer<std::int32_t>(num_boards),
         expert = Buffer<std::int32_t>(num_boards);
    auto per_action = Buffer<float>(num_boards * k), rewards = Buffer<float>(num_boards);
    auto done = Buffer<bool>(num_boards), success = Buffer<bool>(num_boards), dead = Buffer<bool>(num_boards);
    const bool ask = Random(8) == 0;
    if (ask) batch_.ExpertActions(idx, {expert.get(), num_boards});
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < num_boards; ++i) {
      lengths[i] = static_cast<std::int32_t>(Random(k + 1));
      total += k;
      for (std::size_t j = 0; j < k; ++j) {
        actions[i * k + j] =
            static_cast<std::int32_t>(Random(static_cast<std::size_t>(batch_.env().num_actions()) + 1)) - 1;
      }
      if (ask) actions[i * k] = expert[i];
    }
    const bool whole = Random(2) == 0;
    const TurnOut out{per_action.get(), rewards.get(), executed.get(), done.get(), success.get(), dead.get()};
    batch_.Step({actions.get(), num_boards * k}, k, {lengths.get(), whole ? 0 : num_boards}, idx, out);
    for (std::size_t i = 0; i < num_boards; ++i) {
      CHECK(executed[i] <= (whole ? static_cast<std::int32_t>(k) : lengths[i]));
      if (batch_.batch().autoreset != Autoreset::kSame) CHECK(done[i] == batch_.board(idx[i]).done);
    }
    return total;
  }

  void Look(EnvIdx idx) {
    for (Style style : {Style::kCompact, Style::kNumbered, Style::kPeers}) {
      const std::size_t size = batch_.TextBytes(style, idx);
      auto arena = Buffer<char>(size);
      auto offsets = Buffer<std::int64_t>(idx.size() + 1);
      batch_.Render(style, idx, {offsets.get(), idx.size() + 1}, {arena.get(), size});
      CHECK(offsets[idx.size()] == static_cast<std::int64_t>(size));
    }
    auto anchors = Buffer<std::int64_t>(idx.size());
    auto tasks = Buffer<std::uint64_t>(idx.size());
    const std::size_t num_flags = idx.size() * static_cast<std::size_t>(batch_.env().num_actions());
    auto legal = Buffer<bool>(num_flags);
    batch_.Anchors(idx, {anchors.get(), idx.size()});
    batch_.Tasks(idx, {tasks.get(), idx.size()});
    batch_.LegalActions(idx, {legal.get(), num_flags});
  }

  std::vector<char> Snapshot() {
    std::vector<char> data(batch_.SnapshotSize(kNumEnvs));
    batch_.Snapshot(EnvIdx(kNumEnvs), data);
    return data;
  }

  // The same actions from the same snapshot give the same boards.
  void ReplaySnapshot() {
    const auto start = Snapshot();
    const Rng rng = rng_;
    std::vector<char> ends[2];
    for (auto& end : ends) {
      rng_ = rng;
      batch_.Restore(start, EnvIdx(kNumEnvs));
      for (int i = 0; i < 3; ++i) Turn(EnvIdx(SomeBoards()));
      end = Snapshot();
    }
    CHECK(ends[0] == ends[1]);
  }

  // Changed bytes with a checksum made good: refused with nothing changed, or accepted as a sound board.
  void BreakSnapshot() {
    const auto before = Snapshot();
    auto data = before;
    const std::size_t header = sizeof(SnapshotHeader);
    for (std::uint32_t i = 0; i <= Random(3); ++i) {
      data[header + Random(data.size() - header)] ^= static_cast<char>(1 << Random(8));
    }
    SnapshotHeader fixed;
    std::memcpy(&fixed, data.data(), header);
    fixed.checksum = Checksum({data.data() + header, data.size() - header});
    std::memcpy(data.data(), &fixed, header);
    if (Random(4) == 0) data.resize(Random(data.size()));
    try {
      batch_.Restore(data, EnvIdx(kNumEnvs));
    } catch (const std::invalid_argument&) {
      CHECK(Snapshot() == before);
      return;
    }
    Look(EnvIdx(kNumEnvs));
    Turn(EnvIdx(SomeBoards()));
    batch_.Restore(before, EnvIdx(kNumEnvs));
  }

  void ReplaceOne() {
    const std::int64_t board = Random(kNumEnvs);
    const std::uint64_t seed = rng_.Next();
    batch_.Reset({&seed, 1}, EnvIdx(std::span(&board, 1)));
  }

  BatchEnv<Env> batch_;
  Rng rng_;
};

std::string RandomText(Rng& rng, std::string_view alphabet, std::uint32_t max_size) {
  std::string text(rng.Below(max_size + 1), '\0');
  for (char& c : text) c = alphabet[rng.Below(static_cast<std::uint32_t>(alphabet.size()))];
  return text;
}

// A sound level with random characters changed, and plain noise.
void FuzzLevels(std::uint64_t num_texts) {
  const std::string sound = "########\n#   .  #\n# $@ $ #\n#.  #  #\n########\n; 2\n#####\n#@$.#\n#####\n";
  Rng rng(1, 0, 0);
  std::uint64_t num_read = 0;
  for (std::uint64_t i = 0; i < num_texts; ++i) {
    constexpr std::string_view kAlphabet = "#$.*@+ -_\n\r;a";
    std::string text = i % 4 == 0 ? RandomText(rng, kAlphabet, 80) : sound;
    for (std::uint32_t n = i % 4 == 0 ? 0 : rng.Below(4); n > 0; --n) {
      text[rng.Below(static_cast<std::uint32_t>(text.size()))] =
          kAlphabet[rng.Below(static_cast<std::uint32_t>(kAlphabet.size()))];
    }
    Sokoban::Config config;
    try {
      config.levels = std::make_shared<sokoban::LevelSet>(sokoban::ReadLevels({text}));
    } catch (const std::invalid_argument&) {
      continue;
    }
    ++num_read;
    const Sokoban env(config);
    Sokoban::Board board;
    for (std::uint64_t level = 0; level < config.levels->levels.size(); ++level) {
      env.Generate(board, level);
      std::vector<char> out(env.TextSize(Style::kNumbered));
      env.Render(board, Style::kNumbered, out.data());
      env.Task(board);
      char record[Sokoban::kRecordSize];
      env.Save(board, record);
      env.Check(record);
      for (int steps = 0; i % 16 == 1 && env.ExpertAction(board) >= 0; ++steps) {
        CHECK(steps < 200);
        env.Step(board, env.ExpertAction(board));
      }
    }
  }
  CHECK(num_read > num_texts / 8);
}

void FuzzReplies(std::uint64_t num_replies) {
  Rng rng(2, 0, 0);
  constexpr std::string_view kPieces[] = {"<action>", "</action>", "up",     "DOWN",  "left",   ",",  "(",
                                          ")",        "1",         "-",      "99999", " ",      "\n", "\xff",
                                          "still",    "<",         "(2, 3)", "\0x",   "action>"};
  for (std::uint64_t i = 0; i < num_replies; ++i) {
    std::string reply;
    for (std::uint32_t n = rng.Below(14); n > 0; --n) reply += kPieces[rng.Below(std::size(kPieces))];
    auto copy = Buffer<char>(reply.size());
    std::copy(reply.begin(), reply.end(), copy.get());
    const std::string_view text(copy.get(), reply.size());
    const std::size_t k = 1 + rng.Below(4);
    auto out = Buffer<std::int32_t>(k);
    for (bool strict : {false, true}) {
      const ParseOut moves = ParseMoves(text, strict, {out.get(), k});
      CHECK(moves.length >= 1 && moves.length <= static_cast<std::int32_t>(k));
      for (std::int32_t j = 0; j < moves.length; ++j)
        CHECK(moves.valid ? out[j] >= 0 && out[j] <= 4 : out[j] == -1);
      const ParseOut cell = ParseCell(text, strict, 5, 7, {out.get(), k});
      CHECK(cell.length == 1 && out[0] >= -1 && out[0] < 35 && (cell.valid || out[0] == -1));
    }
  }
}

void FuzzSokoban(std::uint64_t num_steps) {
  Sokoban::Config tracked, official, large;
  tracked.track_dead = tracked.end_on_dead = true;
  large.height = large.width = 10;
  large.num_boxes = 3;
  Sokoban::Config levels;
  levels.track_dead = true;
  levels.levels = std::make_shared<sokoban::LevelSet>(
      sokoban::ReadLevels({"########\n#   .  #\n# $@ $ #\n#.  #  #\n########\n", "#####\n#@$.#\n#####\n"}));
  Sokoban::Config permuted, broken, sticky;
  permuted.controls = sokoban::Controls::kPermuted;
  permuted.held_out_rules = true;
  broken.controls = sokoban::Controls::kBroken;
  broken.track_dead = broken.show_moves = true;
  sticky.controls = sokoban::Controls::kBroken;
  sticky.sticky = 0.5;
  BatchConfig plain, threads, same, next, undo;
  threads.num_threads = 2;
  same.autoreset = Autoreset::kSame;
  next.autoreset = Autoreset::kNext;
  next.split = Split::kTest;
  undo.stop_at_done = false;
  undo.last_reward = true;
  Fuzzer<Sokoban>(tracked, plain, 1).Run(num_steps * 3 / 10);
  Fuzzer<Sokoban>(tracked, same, 2).Run(num_steps / 10);
  Fuzzer<Sokoban>(official, undo, 3).Run(num_steps * 3 / 10);
  Fuzzer<Sokoban>(official, next, 4).Run(num_steps / 10);
  Fuzzer<Sokoban>(levels, threads, 5).Run(num_steps * 2 / 10);
  Fuzzer<Sokoban>(large, plain, 6).Run(num_steps / 1000);
  Fuzzer<Sokoban>(permuted, next, 7).Run(num_steps / 10);
  Fuzzer<Sokoban>(broken, same, 8).Run(num_steps / 10);
  Fuzzer<Sokoban>(sticky, threads, 9).Run(num_steps / 10);
}

void FuzzMinesweeper(std::uint64_t num_steps) {
  BatchConfig plain, same, undo;
  same.autoreset = Autoreset::kSame;
  undo.stop_at_done = false;
  MinesweeperConfig small, large;
  small.height = 5;
  large.height = large.width = 9;
  large.num_mines = 12;
  Fuzzer<Minesweeper>(small, plain, 1).Run(num_steps / 2);
  Fuzzer<Minesweeper>(small, same, 2).Run(num_steps / 4);
  Fuzzer<Minesweeper>(small, undo, 3).Run(num_steps / 4);
  Fuzzer<MinesweeperLarge>(large, plain, 4).Run(num_steps / 10);
}

}  // namespace
}  // namespace lamer

int main() {
  const char* fuzz_steps = std::getenv("LAMER_FUZZ_STEPS");
  const std::uint64_t num_steps = fuzz_steps != nullptr ? std::strtoull(fuzz_steps, nullptr, 10) : 1'000'000;
  lamer::FuzzSokoban(num_steps / 2);
  lamer::FuzzMinesweeper(num_steps / 2);
  lamer::FuzzLevels(num_steps / 100);
  lamer::FuzzReplies(num_steps / 10);
}
