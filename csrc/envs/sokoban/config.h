// What can be chosen of Sokoban: size and difficulty of the boards, controls, dead states, rewards.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "core/batch_checks.h"
#include "envs/sokoban/bits.h"
#include "envs/sokoban/controls.h"
#include "envs/sokoban/levels.h"

namespace lamer {

struct SokobanRewards {
  double step = -0.1;     // every action but -1
  double on = 1.0;        // a box comes onto a target
  double off = -1.0;      // a box leaves a target
  double win = 10.0;      // all boxes stand on targets after the action
  double dead = 0.0;      // the push after which the board cannot be solved (track_dead)
  double invalid = -0.1;  // action -1
};

struct SokobanConfig {
  int height = 6, width = 6;  // with the border wall
  int num_boxes = 2;
  int min_moves = 5, max_moves = 21;  // window of the optimal solution length
  sokoban::Controls controls = sokoban::Controls::kPlain;
  bool held_out_rules = false;  // the splits have controls of their own too
  double sticky = 0.0;          // chance that a turn repeats the last move in place of what was said
  bool show_moves = false;      // a last line says what the last word did: "up: left", "up: nothing"
  bool track_dead = false;
  bool end_on_dead = false;
  SokobanRewards rewards;
  std::shared_ptr<const sokoban::LevelSet>
      levels;  // instead of generated boards: seed i is level i modulo their number

  void Validate() const;
};

inline void SokobanConfig::Validate() const {
  CheckRange("height", height, 4, sokoban::kMaxInner + 2);
  CheckRange("width", width, 4, sokoban::kMaxInner + 2);
  CheckRange("num_boxes", num_boxes, 1, sokoban::kMaxBoxes);
  CheckRange("min_moves", min_moves, 1, 1'000);
  CheckRange("max_moves", max_moves, 1, 1'000);
  if (min_moves > max_moves) {
    throw std::invalid_argument("min_moves is " + std::to_string(min_moves) + ", above max_moves, " +
                                std::to_string(max_moves));
  }
  if (held_out_rules && controls == sokoban::Controls::kPlain) {
    throw std::invalid_argument("held_out_rules is True, but controls is 'plain'");
  }
  if (!(sticky >= 0.0 && sticky < 1.0)) {
    throw std::invalid_argument("sticky must be a chance from 0 to below 1, got " + std::to_string(sticky));
  }
  if (end_on_dead && !track_dead) throw std::invalid_argument("end_on_dead is True, but track_dead is False");
  if (rewards.dead != 0.0 && !track_dead) {
    throw std::invalid_argument("reward dead is " + std::to_string(rewards.dead) +
                                ", but track_dead is False");
  }
}

}  // namespace lamer
