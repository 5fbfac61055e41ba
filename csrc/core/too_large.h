// An exact search that would take too long: an answer of its own, unlike a wrong argument.
#pragma once

#include <stdexcept>

namespace lamer {

struct TooLarge : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

}  // namespace lamer
