// Sokoban on characters, cell by cell: the oracle of the tests. It shares no code with csrc/envs, only the
// symbols of the compact text.
#pragma once

#include <cstddef>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace lamer {

struct SlowStep {
  bool pushed = false, on = false, off = false, solved = false;
};

class SlowSokoban {
 public:
  explicit SlowSokoban(std::string text) : text_(std::move(text)), row_size_(text_.find('\n') + 1) {}

  const std::string& text() const { return text_; }
  bool Solved() const { return text_.find('X') == text_.npos; }

  // 0 up, 1 down, 2 left, 3 right; anything else does nothing.
  SlowStep Step(int action) {
    SlowStep out;
    const long offsets[] = {-static_cast<long>(row_size_), static_cast<long>(row_size_), -1, 1};
    if (action >= 0 && action < 4) Move(offsets[action], out);
    out.solved = Solved();
    return out;
  }

  // Length of the shortest solution by forward search, or -1.
  int Solve() const {
    std::unordered_set<std::string> seen{text_};
    std::vector<std::string> layer{text_};
    for (int depth = 0; !layer.empty(); ++depth) {
      std::vector<std::string> next;
      for (const std::string& text : layer) {
        if (SlowSokoban(text).Solved()) return depth;
        for (int action = 0; action < 4; ++action) {
          SlowSokoban successor(text);
          successor.Step(action);
          if (seen.insert(successor.text()).second) next.push_back(successor.text());
        }
      }
      layer = std::move(next);
    }
    return -1;
  }

 private:
  void Move(long offset, SlowStep& out) {
    const std::size_t player = text_.find_first_of("PS");
    const std::size_t to = player + static_cast<std::size_t>(offset),
                      beyond = to + static_cast<std::size_t>(offset);
    if (text_[to] == '#') return;
    if (text_[to] == 'X' || text_[to] == '*') {
      if (text_[beyond] != '_' && text_[beyond] != 'O') return;
      out = {true, text_[beyond] == 'O', text_[to] == '*', false};
      text_[beyond] = text_[beyond] == 'O' ? '*' : 'X';
      text_[to] = text_[to] == '*' ? 'O' : '_';
    }
    text_[to] = text_[to] == 'O' ? 'S' : 'P';
    text_[player] = text_[player] == 'S' ? 'O' : '_';
  }

  std::string text_;
  std::size_t row_size_;
};

}  // namespace lamer
