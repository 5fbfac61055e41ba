// Text styles of observations, and their layout in one arena of bytes: text i is
// arena[offsets[i] : offsets[i + 1]].
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace lamer {

enum class Style : std::uint8_t {
  kCompact,   // ASCII, one character a cell
  kNumbered,  // ASCII, row numbers and blanks between cells
  kPeers,     // the symbols of the official LaMer prompts; UTF-8
};
inline constexpr int kNumStyles = 3;

inline Style ParseStyle(std::string_view name) {
  if (name == "compact") return Style::kCompact;
  if (name == "numbered") return Style::kNumbered;
  if (name == "peers") return Style::kPeers;
  throw std::invalid_argument("style must be 'compact', 'numbered' or 'peers', got '" + std::string(name) +
                              "'");
}

}  // namespace lamer
