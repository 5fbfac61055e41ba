// ALFWorld's stepper on a game of two shelves written by hand, and on tables that are broken in every way.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/rng.h"
#include "envs/alfworld/batch.h"
#include "tests/check.h"

namespace lamer::alfworld {
namespace {

using Game = std::shared_ptr<const Tables>;

class Writer {
 public:
  void Put(const Numbers& numbers) {
    Word(static_cast<std::uint32_t>(numbers.size()));
    for (const std::int32_t number : numbers) Word(static_cast<std::uint32_t>(number));
  }

  void PutRows(const std::vector<Numbers>& rows) {
    Numbers begins{0}, numbers;
    for (const Numbers& row : rows) {
      numbers.insert(numbers.end(), row.begin(), row.end());
      begins.push_back(static_cast<std::int32_t>(numbers.size()));
    }
    Put(begins);
    Put(numbers);
  }

  void Word(std::uint32_t value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof value); }

  std::string bytes;
};

// Facts: 0 at shelf 1, 1 at shelf 2, 2 cup on shelf 1, 3 cup held, 4 plate on shelf 1, 5 lamp on. The goal: the
// cup is held at shelf 2. At shelf 2 `wait` may mean two things.
std::string TwoShelves() {
  const std::vector<std::string> texts{
      "a cup", "a plate", ", ",       ", and ",   "nothing", "You see ", "Nothing happens.",
      "go 1",  "go 2",    "take cup", "use lamp", "wait"};
  Writer out;
  for (const std::uint32_t word : {Tables::kMagic, Tables::kVersion, 7u, 0u}) out.Word(word);
  out.Put({6, 2, 6, 7, 0});  // facts, keys, intro, nothing, goal
  out.Put({0, 2, 4});        // what holds at first
  out.Put({1, 1, 1, 1, 1, 1, 1, 1});
  out.PutRows(
      {{6, 2}, {0}, {2}, {0, 4}, {4}, {8}, {11}, {10}});  // goal; at 1; at 2; at 1, cup; cup; plate; off; on
  out.Put({7, 8, 9, 10, 11});
  out.PutRows({{0}, {1}, {2}, {3}, {4, 5}});      // operators of the commands
  out.Put({6, 6, 6, 6, 6, 6});                    // what is said after them
  out.PutRows({{2}, {1}, {3}, {-1}, {-1}, {2}});  // when they can be done
  out.PutRows({{-1, 2, -1, 1}, {-1, 0, -1, 3}, {-1, 4, -1, 7}, {7, 10, 6, 11}, {}, {}});
  out.PutRows({{3, -1, 4, -1}, {1, -1, 2, 4}, {0, -1}});  // commands anywhere, at shelf 1, at shelf 2
  out.PutRows({{kText, 0, kEnd},
               {kText, 1, kEnd},
               {kEnd},
               {kText, 2, kEnd},
               {kText, 3, kEnd},
               {kText, 4, kEnd},
               {kText, 5, kItems, 2, 5, 3, 4, 4, 0, 5, 1, kCases, 2, 7, 1, -1, 2, kEnd},
               {kText, 6, kEnd}});
  Numbers begins{0};
  for (const std::string& text : texts)
    begins.push_back(begins.back() + static_cast<std::int32_t>(text.size()));
  out.Put(begins);
  for (const std::string& text : texts) out.bytes += text;
  return out.bytes;
}

Game Load(const std::string& bytes) { return std::make_shared<const Tables>(std::span<const char>(bytes)); }

// One board and what it says.
class Player {
 public:
  explicit Player(const Game& game) : batch_(1, 1), game_(game) { batch_.Reset({&game_, 1}, EnvIdx(1)); }

  void Play(std::optional<std::string_view> command) {
    batch_.Step({&command, 1}, EnvIdx(1), {&done, &success, &won, &unclear});
  }
  std::string Text() {
    std::string text;
    batch_.Texts(EnvIdx(1), {&text, 1});
    return text;
  }
  Numbers Commands() {
    Numbers commands;
    batch_.Commands(EnvIdx(1), {&commands, 1});
    return commands;
  }
  std::int64_t Anchor() {
    std::int64_t anchor = 0;
    batch_.Anchors(EnvIdx(1), {&anchor, 1});
    return anchor;
  }
  void Restart() { batch_.Restart(EnvIdx(1)); }
  std::string Snapshot() { return batch_.Snapshot(EnvIdx(1)); }
  void Restore(const std::string& data) { batch_.Restore(data, {&game_, 1}, EnvIdx(1)); }

  bool done = false, success = false, won = false, unclear = false;

 private:
  Batch batch_;
  Game game_;
};

void TestPlay() {
  Player player(Load(TwoShelves()));
  CHECK(player.Text() == "You see a cup, and a plate");
  CHECK((player.Commands() == Numbers{1, 2, 3, 4}));
  const std::int64_t start = player.Anchor();
  player.Play("go 1");
  CHECK(player.Text() == "Nothing happens." && player.Anchor() == start);
  player.Play(std::nullopt);
  CHECK(player.Text() == "Nothing happens.");
  player.Play("use lamp");
  CHECK(player.Text() == "You see a cup, and a platea plate");
  CHECK(player.Anchor() != start);
  player.Play("use lamp");
  CHECK(player.Text() == "You see a cup, and a plate" && player.Anchor() == start);
  player.Play("wait");
  CHECK(!player.unclear);
  player.Play("take cup");
  CHECK(player.Text() == "You see a plate");
  CHECK((player.Commands() == Numbers{1, 3, 4}));
  const std::string held = player.Snapshot();
  player.Play("go 2");
  CHECK(player.done && player.success && player.won && player.Commands().empty());
  player.Play("wait");
  CHECK(player.done && player.success && !player.won && !player.unclear);
  player.Restart();
  player.Play("go 2");
  CHECK(!player.done && (player.Commands() == Numbers{0, 3, 4}));
  player.Play("wait");
  CHECK(player.unclear && !player.done);
  player.Restore(held);
  CHECK(player.Text() == "You see a plate" && (player.Commands() == Numbers{1, 3, 4}));
  player.Play("go 2");
  CHECK(player.won);
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

// Tables with a few wrong bytes are refused, or played without a fault.
void TestBrokenTables() {
  const std::string sound = TwoShelves();
  const std::vector<std::string_view> commands{"go 1", "go 2", "take cup", "use lamp", "wait", "fly"};
  Rng rng(1, 0, 0);
  int played = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = sound;
    for (std::uint32_t k = rng.Below(3) + 1; k > 0; --k) {
      const std::uint32_t at = rng.Below(static_cast<std::uint32_t>(bytes.size()));
      bytes[at] = static_cast<char>(rng.Below(4) == 0 ? rng.Below(256) : bytes[at] + rng.Below(3) - 1);
    }
    if (rng.Below(8) == 0) bytes.resize(rng.Below(static_cast<std::uint32_t>(bytes.size())));
    Game game;
    if (Throws([&] { game = Load(bytes); })) continue;
    ++played;
    Player player(game);
    for (int turn = 0; turn < 12; ++turn) {
      player.Play(commands[rng.Below(6)]);
      player.Text();
      player.Commands();
      if (turn == 6) player.Restore(player.Snapshot());
    }
  }
  CHECK(played > 1000);
}

void TestBrokenSnapshots() {
  Player player(Load(TwoShelves()));
  const std::string sound = player.Snapshot();
  for (std::size_t at = 0; at < sound.size(); ++at) {
    std::string bytes = sound;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x40);
    CHECK(Throws([&] { player.Restore(bytes); }));
    CHECK(Throws([&] { player.Restore(sound.substr(0, at)); }));
  }
  player.Restore(sound);
  Batch batch(2, 1);
  CHECK(Throws([&] { batch.Snapshot(EnvIdx(2)); }));  // boards without a game
}

}  // namespace
}  // namespace lamer::alfworld

int main() {
  lamer::alfworld::TestPlay();
  lamer::alfworld::TestBrokenTables();
  lamer::alfworld::TestBrokenSnapshots();
  return 0;
}
