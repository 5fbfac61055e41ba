// Levels from text: XSB and Boxoban files. Symbols: # wall, $ box, . target, * box on target, @ player, +
// player on target; blank, - or _ floor. Lines of anything else (titles, "; 12") stand between levels.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "envs/sokoban/bits.h"
#include "envs/sokoban/search.h"

namespace lamer::sokoban {

struct LevelSet {
  int height = 0, width = 0;  // of the largest level; smaller ones get more wall on their right and below
  std::vector<Level> levels;
};

namespace levels_detail {

inline bool IsBoardLine(std::string_view line) {
  return line.find('#') != line.npos && line.find_first_not_of("#$.*@+ -_") == line.npos;
}

[[noreturn]] inline void Fail(std::size_t level, const std::string& what) {
  throw std::invalid_argument("level " + std::to_string(level) + ": " + what);
}

inline void AddLevel(const std::vector<std::string_view>& lines, LevelSet& set) {
  const std::size_t index = set.levels.size();
  std::size_t left = std::string_view::npos, right = 0;
  for (const auto line : lines) {
    left = std::min(left, line.find('#'));
    right = std::max(right, line.rfind('#'));
  }
  const std::size_t height = lines.size(), width = right - left + 1;
  constexpr std::size_t kMaxSide = kMaxInner + 2;
  if (height > kMaxSide || width > kMaxSide) {
    Fail(index, "it is " + std::to_string(height) + "x" + std::to_string(width) + ", the largest is 10x10");
  }

  Level level;
  Bits open = 0;  // inner cells that are no wall
  int num_players = 0, num_boxes = 0, num_targets = 0;
  bool leaks = false;  // a border cell is no wall
  Bits beside_gap = 0;
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      const char c = left + x < lines[y].size() ? lines[y][left + x] : ' ';
      const bool box = c == '$' || c == '*', target = c == '.' || c == '*' || c == '+';
      const bool player = c == '@' || c == '+';
      num_boxes += box;
      num_targets += target;
      num_players += player;
      const bool border = y == 0 || x == 0 || y + 1 == height || x + 1 == width;
      if (border) {
        if (c == '#') continue;
        leaks |= box || target || player;
        // The inner neighbour of a gap must not be reachable.
        if (y == 0 && height > 2 && x > 0 && x + 1 < width) beside_gap |= Bit(static_cast<int>(x - 1));
        if (y + 1 == height && height > 2 && x > 0 && x + 1 < width) {
          beside_gap |= Bit(static_cast<int>(8 * (y - 2) + x - 1));
        }
        if (x == 0 && width > 2 && y > 0 && y + 1 < height) beside_gap |= Bit(static_cast<int>(8 * (y - 1)));
        if (x + 1 == width && width > 2 && y > 0 && y + 1 < height) {
          beside_gap |= Bit(static_cast<int>(8 * (y - 1) + x - 2));
        }
        continue;
      }
      const int cell = static_cast<int>(8 * (y - 1) + x - 1);
      if (c != '#') open |= Bit(cell);
      if (box) level.boxes |= Bit(cell);
      if (target) level.targets |= Bit(cell);
      if (player) level.player = cell;
    }
  }
  const auto check = [&](const char* what, int got, const std::string& expected, bool ok) {
    if (!ok) Fail(index, "it has " + std::to_string(got) + " " + what + ", expected " + expected);
  };
  check("players", num_players, "1", num_players == 1);
  check("boxes", num_boxes, "1 to " + std::to_string(kMaxBoxes), num_boxes >= 1 && num_boxes <= kMaxBoxes);
  check("targets", num_targets, "as many as boxes, " + std::to_string(num_boxes), num_targets == num_boxes);
  const Bits reachable = leaks ? 0 : Flood(Bit(level.player), open);
  if (leaks || (reachable & beside_gap) != 0)
    Fail(index, "it is not closed: the player can walk out of its walls");
  if (level.boxes == level.targets) Fail(index, "all its boxes are on targets already");
  level.floor = reachable | level.boxes | level.targets;
  set.height = std::max(set.height, static_cast<int>(height));
  set.width = std::max(set.width, static_cast<int>(width));
  set.levels.push_back(level);
}

}  // namespace levels_detail

// All levels of the texts, in order; std::invalid_argument names the level and what is wrong with it.
inline LevelSet ReadLevels(const std::vector<std::string>& texts) {
  LevelSet set{4, 4, {}};
  for (const std::string& text : texts) {
    std::vector<std::string_view> lines;
    std::string_view rest = text;
    if (rest.starts_with("\xef\xbb\xbf")) rest.remove_prefix(3);  // byte order mark
    for (bool more = true; more;) {
      const std::size_t end = rest.find('\n');
      more = end != rest.npos;
      std::string_view line = rest.substr(0, end);
      if (more) rest.remove_prefix(end + 1);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      const bool board = levels_detail::IsBoardLine(line);
      if (board) lines.push_back(line);
      if ((!board || !more) && !lines.empty()) {
        levels_detail::AddLevel(lines, set);
        lines.clear();
      }
    }
  }
  if (set.levels.empty()) {
    throw std::invalid_argument("levels: 0 levels in " + std::to_string(texts.size()) +
                                " texts, expected at least 1");
  }
  return set;
}

}  // namespace lamer::sokoban
