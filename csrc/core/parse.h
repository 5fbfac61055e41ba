// Replies of a model to actions: "<action>up, left</action>" and "<action>(2, 3)</action>". Any bytes are
// accepted. What stands before the last </think> is reasoning and is never read; an opening <think> alone
// says nothing, since many templates write it into the prompt.
//
// Lenient, as the official projections read: the text between the first <action> and the last </action>; the
// first move word of each comma-separated piece, or the first "(int, int)". Strict: one tag pair and nothing
// else in it. lamer_fast/envs/replies.py reads the same spans for texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace lamer {

struct ParseOut {
  std::int32_t length;  // actions written, >= 1: an unparsable reply is the one action -1
  bool valid;           // the reply had the right form
};

namespace parse_detail {

constexpr char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr bool IsLetter(char c) { return Lower(c) >= 'a' && Lower(c) <= 'z'; }
constexpr bool IsDigit(char c) { return c >= '0' && c <= '9'; }
constexpr bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

constexpr bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (Lower(text[i]) != lower[i]) return false;
  }
  return true;
}

constexpr std::string_view Strip(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

inline constexpr std::string_view kOpen = "<action>", kClose = "</action>", kThought = "</think>";

// The reply without its reasoning.
constexpr std::string_view Answer(std::string_view reply) {
  const std::size_t thought = reply.rfind(kThought);
  return thought == reply.npos ? reply : reply.substr(thought + kThought.size());
}

// The text inside the tags, or false. Tags are matched as written, in lower case.
constexpr bool TagContent(std::string_view reply, bool strict, std::string_view& content) {
  reply = Answer(reply);
  const std::size_t open = reply.find(kOpen);
  const std::size_t close = reply.rfind(kClose);
  if (open == reply.npos || close == reply.npos || close < open + kOpen.size()) return false;
  content = reply.substr(open + kOpen.size(), close - open - kOpen.size());
  if (!strict) return true;
  return content.find(kOpen) == content.npos && content.find(kClose) == content.npos &&
         reply.find(kOpen, close) == reply.npos;
}

inline constexpr std::string_view kMoves[] = {"up", "down", "left", "right", "still"};

constexpr std::int32_t MoveOf(std::string_view word) {
  for (std::int32_t i = 0; i < 5; ++i) {
    if (EqualsIgnoringCase(word, kMoves[i])) return i;
  }
  return -1;
}

// The first move among the words (runs of letters) of a piece, or -1.
constexpr std::int32_t FirstMove(std::string_view piece) {
  for (std::size_t i = 0; i < piece.size();) {
    std::size_t end = i;
    while (end < piece.size() && IsLetter(piece[end])) ++end;
    if (end > i) {
      if (const std::int32_t move = MoveOf(piece.substr(i, end - i)); move >= 0) return move;
    }
    i = end + 1;
  }
  return -1;
}

// Reads an integer at `at`, after blanks; a value beyond +-1e6 stays there. False when there is none.
constexpr bool ReadInt(std::string_view text, std::size_t& at, std::int64_t& value) {
  while (at < text.size() && IsBlank(text[at])) ++at;
  const bool negative = at < text.size() && text[at] == '-';
  if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
  if (at >= text.size() || !IsDigit(text[at])) return false;
  value = 0;
  for (; at < text.size() && IsDigit(text[at]); ++at) {
    if (value < 1'000'000) value = value * 10 + (text[at] - '0');
  }
  if (negative) value = -value;
  while (at < text.size() && IsBlank(text[at])) ++at;
  return true;
}

// "(row, column)" with its bracket at text[at]; on success `at` is behind the closing bracket.
constexpr bool ReadPair(std::string_view text, std::size_t& at, std::int64_t& row, std::int64_t& column) {
  std::size_t i = at + 1;
  if (!ReadInt(text, i, row) || i >= text.size() || text[i] != ',') return false;
  ++i;
  if (!ReadInt(text, i, column) || i >= text.size() || text[i] != ')') return false;
  at = i + 1;
  return true;
}

}  // namespace parse_detail

// Up to out.size() >= 1 moves: 0 up, 1 down, 2 left, 3 right, 4 still. More are dropped, by strict refused.
constexpr ParseOut ParseMoves(std::string_view reply, bool strict, std::span<std::int32_t> out) {
  namespace d = parse_detail;
  std::string_view content;
  std::size_t length = 0;
  bool ok = d::TagContent(reply, strict, content);
  while (ok) {
    const std::size_t comma = content.find(',');
    const std::string_view piece = content.substr(0, comma);
    const std::int32_t move = strict ? d::MoveOf(d::Strip(piece)) : d::FirstMove(piece);
    if (strict && (move < 0 || length == out.size())) {
      ok = false;
      break;
    }
    if (move >= 0) out[length++] = move;
    if (comma == content.npos || (!strict && length == out.size())) break;
    content.remove_prefix(comma + 1);
  }
  if (ok && length > 0) return {static_cast<std::int32_t>(length), true};
  out[0] = -1;
  return {1, false};
}

// One cell "(row, column)", both from 1, as row * width + column from 0. Off the board: valid, but action -1.
constexpr ParseOut ParseCell(std::string_view reply, bool strict, int height, int width,
                             std::span<std::int32_t> out) {
  namespace d = parse_detail;
  out[0] = -1;
  std::string_view content;
  if (!d::TagContent(reply, strict, content)) return {1, false};
  std::int64_t row = 0, column = 0;
  bool found = false;
  if (strict) {
    content = d::Strip(content);
    std::size_t at = 0;
    found = content.starts_with('(') && d::ReadPair(content, at, row, column) && at == content.size();
  }
  for (std::size_t at = 0; !strict && !found && at < content.size(); ++at) {
    found = content[at] == '(' && d::ReadPair(content, at, row, column);
  }
  if (!found) return {1, false};
  if (row >= 1 && row <= height && column >= 1 && column <= width) {
    out[0] = static_cast<std::int32_t>((row - 1) * width + column - 1);
  }
  return {1, true};
}

}  // namespace lamer
