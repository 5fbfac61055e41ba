// What boards are and do, as one number per configuration: the same on every processor, compiler and level of
// vector instructions. tests/envs/golden has the same from Python, of more configurations. A number that changes
// means that every recorded seed stands for another board.
#include <bit>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <span>
#include <vector>

#include "core/batch_env.h"
#include "core/simd.h"
#include "envs/minesweeper/rules.h"
#include "envs/sokoban/rules.h"
#include "tests/check.h"

namespace lamer {
namespace {

constexpr std::size_t kNumEnvs = 64, kTurns = 6, kActions = 3;

// The hash of all that a batch gives out over a few random turns.
template <Game Env>
class Recorder {
 public:
  Recorder(const typename Env::Config& config, const BatchConfig& options)
      : batch_(kNumEnvs, config, options) {
    std::vector<std::uint64_t> seeds(kNumEnvs);
    for (std::size_t i = 0; i < kNumEnvs; ++i) seeds[i] = i * 0x9e3779b97f4a7c15ULL;
    batch_.Reset(seeds, EnvIdx(kNumEnvs));
  }

  std::uint64_t Play() {
    for (std::size_t turn = 0; turn < kTurns; ++turn) {
      Look();
      Turn();
    }
    Experts();
    return hash_;
  }

 private:
  void AddBytes(std::span<const char> bytes) { hash_ = HashCombine(hash_, Checksum(bytes)); }
  template <typename T>
  void Add(const std::vector<T>& values) {
    for (const T value : values) hash_ = HashCombine(hash_, static_cast<std::uint64_t>(value));
  }
  void Add(const std::vector<float>& values) {
    for (const float value : values) hash_ = HashCombine(hash_, std::bit_cast<std::uint32_t>(value));
  }

  void Look() {
    const EnvIdx all(kNumEnvs);
    std::vector<std::int64_t> offsets(kNumEnvs + 1), anchors(kNumEnvs);
    std::vector<std::uint64_t> tasks(kNumEnvs);
    std::vector<char> bytes;
    for (const Style style : {Style::kCompact, Style::kNumbered, Style::kPeers}) {
      bytes.resize(batch_.TextBytes(style, all));
      batch_.Render(style, all, offsets, bytes);
      Add(offsets);
      AddBytes(bytes);
    }
    bytes.resize(batch_.SnapshotSize(kNumEnvs));
    batch_.Snapshot(all, bytes);
    AddBytes(bytes);
    batch_.Anchors(all, anchors);
    batch_.Tasks(all, tasks);
    Add(anchors);
    Add(tasks);
    AddProbabilities();
  }

  void Turn() {
    std::vector<std::int32_t> actions(kNumEnvs * kActions), executed(kNumEnvs);
    for (auto& action : actions) {
      action =
          static_cast<std::int32_t>(rng_.Below(static_cast<std::uint32_t>(batch_.env().num_actions()) + 1)) -
          1;
    }
    std::vector<float> per_action(actions.size()), rewards(kNumEnvs);
    bool done[kNumEnvs], success[kNumEnvs], dead[kNumEnvs];
    batch_.Step(actions, kActions, {}, EnvIdx(kNumEnvs),
                {per_action.data(), rewards.data(), executed.data(), done, success, dead});
    Add(per_action);
    Add(rewards);
    Add(executed);
    for (std::size_t i = 0; i < kNumEnvs; ++i)
      hash_ = HashCombine(hash_, done[i] + 2 * success[i] + 4 * dead[i]);
  }

  void Experts() {
    batch_.Restart(EnvIdx(kNumEnvs));
    std::vector<std::int32_t> actions(kNumEnvs);
    batch_.ExpertActions(EnvIdx(kNumEnvs), actions);
    Add(actions);
  }

  // Of Minesweeper: sums and products of doubles, equal in every bit.
  void AddProbabilities() {
    if constexpr (requires { batch_.env().FindMineProbabilities(batch_.board(0), std::span<double>()); }) {
      std::vector<double> p(static_cast<std::size_t>(batch_.env().num_actions()));
      for (std::size_t i = 0; i < kNumEnvs; ++i) {
        batch_.env().FindMineProbabilities(batch_.board(i), p);
        for (const double value : p) hash_ = HashCombine(hash_, std::bit_cast<std::uint64_t>(value));
      }
    }
  }

  BatchEnv<Env> batch_;
  Rng rng_{0, 0, 0};
  std::uint64_t hash_ = 0;
};

int num_wrong = 0;

template <Game Env>
void Compare(const char* name, const typename Env::Config& config, const BatchConfig& options,
             std::uint64_t expected) {
  const std::uint64_t got = Recorder<Env>(config, options).Play();
  if (got == expected) return;
  ++num_wrong;
  std::fprintf(stderr, "%s, %s: 0x%016" PRIx64 ", expected 0x%016" PRIx64 "\n", name,
               kSimdNames[static_cast<int>(ActiveSimd())], got, expected);
}

void CompareAll() {
  BatchConfig plain, train, next;
  train.split = Split::kTrain;
  next.autoreset = Autoreset::kNext;
  Sokoban::Config sokoban, dead, large, permuted, broken, sticky;
  dead.track_dead = dead.end_on_dead = true;
  large.height = large.width = 10;
  large.num_boxes = 3;
  permuted.controls = sokoban::Controls::kPermuted;
  permuted.held_out_rules = true;
  broken.controls = sokoban::Controls::kBroken;
  sticky.sticky = 0.25;
  sticky.show_moves = true;
  Compare<Sokoban>("sokoban", sokoban, plain, 0x9577526847be642f);
  Compare<Sokoban>("sokoban next board", sokoban, next, 0xa46f2c3d4d612db9);
  Compare<Sokoban>("sokoban dead", dead, plain, 0xd03217ad267a5b85);
  Compare<Sokoban>("sokoban 10x10", large, plain, 0x3883fd7f503e93ff);
  Compare<Sokoban>("sokoban permuted, train", permuted, train, 0xc08f0951ffa96f73);
  Compare<Sokoban>("sokoban broken", broken, plain, 0x10b554e4eda74b4d);
  Compare<Sokoban>("sokoban sticky", sticky, plain, 0xddf159ecf87a8ef3);

  MinesweeperConfig small, agent, no_guess, big;
  small.height = 4;
  agent.height = agent.width = 8;
  agent.num_mines = 10;
  agent.first_click = mines::FirstClick::kAgent;
  no_guess.no_guess = true;
  big.height = 9;
  big.width = 16;
  big.num_mines = 20;
  Compare<Minesweeper>("minesweeper train", small, train, 0x0e489386a07ce72b);
  Compare<Minesweeper>("minesweeper agent, next board", agent, next, 0xefd3346b2add655c);
  Compare<Minesweeper>("minesweeper no guess", no_guess, plain, 0x333751046f7696ff);
  Compare<MinesweeperLarge>("minesweeper 9x16", big, plain, 0x2c9ee7fa5dbb7e3b);
}

}  // namespace
}  // namespace lamer

int main() {
  using namespace lamer;
  for (Simd level : {Simd::kScalar, Simd::kNeon, Simd::kAvx2, Simd::kAvx512}) {
    if (!HasSimd(level)) continue;
    SetSimdLevel(kSimdNames[static_cast<int>(level)]);
    CompareAll();
  }
  CHECK(num_wrong == 0);
}
