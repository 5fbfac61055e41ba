// Tables of one compiled ALFWorld game (alfworld 0.4.2, textworld 1.7.0): facts as bits, what can be done, what
// is said then. lamer_fast/envs/adapters/alfworld/compiler/binary.py writes them; this file has the layout.
//
// "AFLW", version, digest of the game (u32, u32, u64), then sections: a count (u32) and as many int32, little
// endian; last the bytes of all texts. Rows are two sections: where each begins (one more than there are rows),
// and their numbers one after another.
//
//   head            number of facts, of key facts, program of the intro, of "nothing happens", node of the goal
//   initial         facts that hold at first
//   node_every      1: all parts of the node must hold, 0: one of them
//   nodes           rows; part >= 0: fact * 2 + negated; part < 0: node -1 - part, one before this
//   command_texts   string of each command; commands are in the order of their texts
//   command_ops     rows: operators that a command may mean
//   op_programs     what is said after an operator
//   op_cases        rows of nodes: the operator can be done where one holds
//   op_changes      rows of pairs: node, fact * 2 + new value; first what is taken away
//   buckets         rows of pairs: command, node. Row 0 always counts, row 1 + k where key fact k holds
//   programs        rows of code (below); a program calls only programs before it
//   strings         where each text begins in the bytes
//
// A node of -1 always holds. Code: 0 string | 1 n (node program) x n: the first that holds, the last does |
// 2 n empty separator last_separator (node program) x n: all that hold | 3: the end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lamer::alfworld {

using Numbers = std::vector<std::int32_t>;
using Words = std::vector<std::uint64_t>;

struct Rows {
  Numbers begins, numbers;

  std::size_t size() const { return begins.size() - 1; }
  std::span<const std::int32_t> operator[](std::size_t i) const {
    const auto begin = static_cast<std::size_t>(begins[i]);
    return {numbers.data() + begin, static_cast<std::size_t>(begins[i + 1]) - begin};
  }
};

enum Code : std::int32_t { kText, kCases, kItems, kEnd };

class Tables {
 public:
  static constexpr std::uint32_t kMagic = 0x574c4641u, kVersion = 1;
  // What programs and nodes that lead to others may come to: recursion depth, and parts or bytes in all.
  static constexpr std::int64_t kMaxDepth = 64, kMaxSize = 1 << 20;

  // Throws std::invalid_argument where the bytes are no tables; what it accepts can be played safely.
  explicit Tables(std::span<const char> bytes) : left_(bytes) {
    if (Take<std::uint32_t>() != kMagic) Fail("they do not begin with AFLW");
    if (const auto version = Take<std::uint32_t>(); version != kVersion) {
      Fail("their version is " + std::to_string(version) + ", expected " + std::to_string(kVersion));
    }
    digest_ = Take<std::uint64_t>();
    ReadHead(ReadNumbers());
    const Numbers initial = ReadNumbers();
    node_every_ = ReadNumbers();
    nodes_ = ReadRows();
    const Numbers command_texts = ReadNumbers();
    command_ops_ = ReadRows();
    op_programs_ = ReadNumbers();
    op_cases_ = ReadRows();
    op_changes_ = ReadRows();
    buckets_ = ReadRows();
    programs_ = ReadRows();
    string_begins_ = ReadNumbers();
    text_.assign(left_.begin(), left_.end());
    CheckStrings();
    CheckNodes();
    CheckPrograms();
    CheckOperators(command_texts.size());
    initial_.assign((static_cast<std::size_t>(num_facts_) + 63) / 64, 0);
    for (const std::int32_t fact : initial) {
      Check(fact, num_facts_, "a fact");
      initial_[static_cast<std::size_t>(fact) / 64] |= std::uint64_t{1} << (fact % 64);
    }
    for (const std::int32_t string : command_texts) {
      Check(string, string_begins_.size() - 1, "a command's text");
      command_of_.emplace(String(string), static_cast<std::int32_t>(commands_.size()));
      commands_.push_back(String(string));
    }
  }
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;

  std::uint64_t digest() const { return digest_; }
  const Words& initial() const { return initial_; }
  std::int32_t num_facts() const { return num_facts_; }
  std::int32_t num_keys() const { return num_keys_; }
  std::int32_t intro() const { return intro_; }
  std::int32_t nothing() const { return nothing_; }
  std::int32_t goal() const { return goal_; }
  std::size_t num_programs() const { return programs_.size(); }
  const std::vector<std::string_view>& commands() const { return commands_; }
  bool every(std::int32_t node) const { return node_every_[static_cast<std::size_t>(node)] != 0; }
  std::span<const std::int32_t> node(std::int32_t i) const { return nodes_[static_cast<std::size_t>(i)]; }
  std::span<const std::int32_t> ops(std::int32_t command) const { return command_ops_[Index(command)]; }
  std::span<const std::int32_t> cases(std::int32_t op) const { return op_cases_[Index(op)]; }
  std::span<const std::int32_t> changes(std::int32_t op) const { return op_changes_[Index(op)]; }
  std::int32_t said(std::int32_t op) const { return op_programs_[Index(op)]; }
  std::span<const std::int32_t> bucket(std::size_t i) const { return buckets_[i]; }
  const std::int32_t* program(std::int32_t i) const {
    return programs_.numbers.data() + programs_.begins[Index(i)];
  }
  std::string_view String(std::int32_t i) const {
    const auto begin = static_cast<std::size_t>(string_begins_[Index(i)]);
    return std::string_view(text_).substr(begin,
                                          static_cast<std::size_t>(string_begins_[Index(i) + 1]) - begin);
  }
  // -1 where the game has no such command.
  std::int32_t Command(std::string_view text) const {
    const auto at = command_of_.find(text);
    return at == command_of_.end() ? -1 : at->second;
  }

 private:
  static std::size_t Index(std::int32_t i) { return static_cast<std::size_t>(i); }

  [[noreturn]] static void Fail(const std::string& what) {
    throw std::invalid_argument("these bytes are no compiled game: " + what);
  }

  static void Check(std::int64_t number, std::size_t end, const char* what) {
    if (number < 0 || static_cast<std::size_t>(number) >= end) {
      Fail(std::string(what) + " is " + std::to_string(number) + ", expected 0 to " + std::to_string(end) +
           " - 1");
    }
  }
  static void Check(std::int64_t number, std::int32_t end, const char* what) {
    Check(number, static_cast<std::size_t>(std::max(end, 0)), what);
  }

  // How deep and how large what is walked recursively can be.
  struct Extent {
    std::int64_t depth = 1, size = 0;

    void Add(const Extent& part, std::int64_t times = 1) {
      depth = std::max(depth, part.depth + 1);
      size = std::min(size + times * part.size, 2 * kMaxSize);
    }
    void Check(const char* what) const {
      if (depth <= kMaxDepth && size <= kMaxSize) return;
      Fail(std::string("a ") + what + " is " + std::to_string(depth) + " deep and " + std::to_string(size) +
           " large, expected at most " + std::to_string(kMaxDepth) + " and " + std::to_string(kMaxSize));
    }
  };

  template <typename T>
  T Take() {
    if (left_.size() < sizeof(T)) Fail("they end too early");
    T value;
    std::memcpy(&value, left_.data(), sizeof value);
    left_ = left_.subspan(sizeof value);
    return value;
  }

  Numbers ReadNumbers() {
    const auto count = Take<std::uint32_t>();
    if (left_.size() / sizeof(std::int32_t) < count) Fail("they end too early");
    Numbers numbers(count);
    if (count != 0) std::memcpy(numbers.data(), left_.data(), count * sizeof(std::int32_t));
    left_ = left_.subspan(count * sizeof(std::int32_t));
    return numbers;
  }

  Rows ReadRows() {
    Rows rows{ReadNumbers(), ReadNumbers()};
    CheckBegins(rows.begins, rows.numbers.size());
    return rows;
  }

  static void CheckBegins(const Numbers& begins, std::size_t end) {
    if (begins.empty() || begins.front() != 0 || !std::is_sorted(begins.begin(), begins.end()) ||
        static_cast<std::size_t>(begins.back()) != end) {
      Fail("the rows of a section do not cover it");
    }
  }

  void ReadHead(const Numbers& head) {
    if (head.size() != 5) Fail("their head has " + std::to_string(head.size()) + " numbers, expected 5");
    num_facts_ = head[0], num_keys_ = head[1], intro_ = head[2], nothing_ = head[3], goal_ = head[4];
    if (num_facts_ < 0 || num_keys_ < 0 || num_keys_ > num_facts_) Fail("they have no sound number of facts");
  }

  void CheckStrings() const { CheckBegins(string_begins_, text_.size()); }

  // -1 or one of the nodes before `end`.
  void CheckNode(std::int32_t node, std::size_t end) const {
    if (node != -1) Check(node, end, "a condition");
  }

  void CheckNodes() const {
    if (node_every_.size() != nodes_.size()) Fail("their conditions have no kind each");
    std::vector<Extent> extents(nodes_.size());
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      for (const std::int32_t part : nodes_[i]) {
        if (part >= 0) {
          Check(part / 2, num_facts_, "a fact");
          extents[i].size += 1;
        } else {
          Check(std::int64_t{-1} - part, i, "a condition in a condition");
          extents[i].Add(extents[Index(-1 - part)]);
        }
      }
      extents[i].Check("condition");
    }
  }

  void CheckPrograms() const {
    std::vector<Extent> extents(programs_.size());
    for (std::size_t i = 0; i < programs_.size(); ++i) extents[i] = CheckProgram(i, extents);
    Check(intro_, programs_.size(), "the intro");
    Check(nothing_, programs_.size(), "the text for nothing");
    CheckNode(goal_, nodes_.size());
  }

  // extents: of the programs before i.
  Extent CheckProgram(std::size_t i, const std::vector<Extent>& extents) const {
    const auto code = programs_[i];
    Extent extent;
    std::size_t at = 0;
    const auto next = [&] {
      if (at >= code.size()) Fail("a text has no end");
      return code[at++];
    };
    const auto call = [&](std::int64_t times) {
      const std::int32_t program = next();
      Check(program, i, "a text in a text");
      extent.Add(extents[Index(program)], times);
    };
    for (std::int32_t kind = next(); kind != kEnd; kind = next()) {
      if (kind == kText) {
        const std::int32_t string = next();
        Check(string, string_begins_.size() - 1, "a text");
        extent.size += static_cast<std::int64_t>(String(string).size());
        continue;
      }
      if (kind != kCases && kind != kItems) Fail("a text has a part of kind " + std::to_string(kind));
      const std::int32_t count = next();
      if (count < (kind == kCases ? 1 : 0)) Fail("a text has no cases");
      for (int around = 0; kind == kItems && around < 3; ++around) call(count + 1);
      for (std::int32_t k = 0; k < count; ++k) {
        const std::int32_t node = next();
        CheckNode(node, nodes_.size());
        if (kind == kCases && k + 1 == count && node != -1) Fail("the last case of a text may not hold");
        call(1);
      }
    }
    if (at != code.size()) Fail("a text goes on behind its end");
    extent.Check("text");
    return extent;
  }

  void CheckOperators(std::size_t num_commands) const {
    const std::size_t num_ops = op_programs_.size();
    if (op_cases_.size() != num_ops || op_changes_.size() != num_ops || command_ops_.size() != num_commands ||
        buckets_.size() != Index(num_keys_) + 1) {
      Fail("their sections disagree about the number of operators, commands or keys");
    }
    for (const std::int32_t program : op_programs_) Check(program, programs_.size(), "what is said");
    for (const std::int32_t op : command_ops_.numbers) Check(op, num_ops, "an operator");
    for (const std::int32_t node : op_cases_.numbers) CheckNode(node, nodes_.size());
    CheckPairs(op_changes_, [&](std::int32_t node, std::int32_t fact) {
      CheckNode(node, nodes_.size());
      Check(fact >= 0 ? fact / 2 : fact, num_facts_, "a fact");
    });
    CheckPairs(buckets_, [&](std::int32_t command, std::int32_t node) {
      Check(command, num_commands, "a command");
      CheckNode(node, nodes_.size());
    });
  }

  template <typename Fn>
  static void CheckPairs(const Rows& rows, Fn&& fn) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto row = rows[i];
      if (row.size() % 2 != 0) Fail("a row of pairs has an odd length");
      for (std::size_t k = 0; k < row.size(); k += 2) fn(row[k], row[k + 1]);
    }
  }

  std::span<const char> left_;  // what is not yet read
  std::uint64_t digest_ = 0;
  std::int32_t num_facts_ = 0, num_keys_ = 0, intro_ = 0, nothing_ = 0, goal_ = 0;
  Words initial_;
  Numbers node_every_, op_programs_, string_begins_;
  Rows nodes_, command_ops_, op_cases_, op_changes_, buckets_, programs_;
  std::string text_;
  std::vector<std::string_view> commands_;
  std::unordered_map<std::string_view, std::int32_t> command_of_;
};

}  // namespace lamer::alfworld
