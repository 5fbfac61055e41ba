// The exact probability of a mine under every hidden cell, given the visible numbers and the count of mines.
//
// Hidden cells that touch the same numbers are interchangeable: they form a class, which holds n mines in
// C(size, n) ways. Classes that share numbers form a component. Within a component a forward-backward pass
// over its classes counts layouts by number of mines; its states are (mines still missing at each number in
// play, mines so far). Components and the cells that no number sees meet only in the total count of mines: a
// product of polynomials.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "envs/minesweeper/solver.h"

namespace lamer::mines {

// Work bound: transitions of all forward passes of one position. A component beyond it is estimated.
constexpr std::size_t kMaxTransitions = std::size_t{1} << 20;

template <int kWords>
struct MineProbabilities {
  std::array<double, Bits<kWords>::kNumBits> at{};  // by bit; 0 where a cell is open
  bool exact = true;
};

// C(n, 0 .. n).
inline std::vector<double> Binomials(int n) {
  std::vector<double> row(static_cast<std::size_t>(n) + 1, 1.0);
  for (int k = 1; k <= n; ++k) row[k] = row[k - 1] * (n - k + 1) / k;
  return row;
}

// Coefficients 0 .. max_degree of a * b.
inline std::vector<double> Multiply(const std::vector<double>& a, const std::vector<double>& b,
                                    int max_degree) {
  const auto degree = std::min<std::size_t>(a.size() + b.size() - 2, static_cast<std::size_t>(max_degree));
  std::vector<double> product(degree + 1, 0.0);
  for (std::size_t i = 0; i < a.size() && i <= degree; ++i) {
    for (std::size_t j = 0; j < b.size() && i + j <= degree; ++j) product[i + j] += a[i] * b[j];
  }
  return product;
}

template <int kWords>
class Component {
 public:
  using B = Bits<kWords>;

  // `cells`: hidden cells of one component.
  Component(const View<kWords>& view, const B& hidden, const B& cells)
      : num_mines_(view.num_mines), cells_(cells) {
    FindClasses(view, hidden);
    OrderClasses();
  }

  // Counts layouts by mines. False if it would take more than `budget` transitions, which it lowers.
  bool Count(std::size_t& budget) {
    if (num_slots_ > kMaxSlots) return false;
    layers_.assign(1, {{State{}}, {1.0}, {}});
    layers_[0].states[0] = {};
    for (const Class& c : classes_) {
      if (!Advance(c, budget)) return false;
    }
    ways_.assign(1, 0.0);
    const Layer& last = layers_.back();
    for (std::size_t i = 0; i < last.states.size(); ++i) {
      const auto mines = static_cast<std::size_t>(last.states[i].mines);
      if (ways_.size() <= mines) ways_.resize(mines + 1, 0.0);
      ways_[mines] += last.ways[i];
    }
    return true;
  }

  // Stands in for Count: each cell gets the mean of its numbers' shares, the component their rounded sum.
  void Estimate() {
    double sum = 0.0;
    for (Class& c : classes_) {
      double share = 0.0;
      for (int i : c.numbers) share += static_cast<double>(numbers_[i].count) / numbers_[i].num_cells;
      c.probability = share / static_cast<double>(c.numbers.size());
      sum += c.probability * c.size;
    }
    ways_.assign(static_cast<std::size_t>(std::min<int>(num_mines_, static_cast<int>(sum + 0.5))) + 1, 0.0);
    ways_.back() = 1.0;
    layers_.clear();
  }

  // Layouts with 0, 1, ... mines.
  const std::vector<double>& ways() const { return ways_; }

  // `others[m]`: ways to lay all mines but m outside this component.
  void Write(std::vector<double> others, MineProbabilities<kWords>& out) {
    double total = 0.0;
    for (std::size_t m = 0; m < ways_.size(); ++m) total += ways_[m] * others[m];
    if (total == 0.0)
      std::fill(others.begin(), others.end(), 1.0);  // the rest was estimated, and does not fit
    if (!layers_.empty()) Backward(others);
    for (const Class& c : classes_) {
      ForEach(c.cells, [&](int bit) { out.at[bit] = c.probability; });
    }
  }

 private:
  static constexpr int kMaxSlots = 32;

  struct Number {
    int count, num_cells;
    int num_left;   // cells of classes not yet passed
    int slot = -1;  // position in the state's key while in play
  };
  struct Class {
    B cells, key;  // key: the numbers that see it
    int size;
    std::vector<int> numbers;
    double probability = 0.0;
    std::array<std::uint64_t, 2> opening{}, unit{};  // counts that come into play; one mine in each number
    std::vector<std::pair<int, int>> limits;         // (slot, cells left after this class) of its numbers
  };
  struct State {
    std::array<std::uint64_t, 2> missing{};  // 4 bits a slot
    int mines = 0;
    bool operator==(const State&) const = default;
  };
  struct Edge {
    std::uint32_t from, to;
    int mines;
  };
  struct Layer {
    std::vector<State> states;
    std::vector<double> ways;
    std::vector<Edge> edges;  // into this layer
  };

  void FindClasses(const View<kWords>& view, const B& hidden) {
    std::array<int, B::kNumBits> number_of;
    ForEach(Dilate(cells_) & view.opened, [&](int bit) {
      const int num_cells = (Dilate(B::One(bit)) & hidden).Count();
      number_of[bit] = static_cast<int>(numbers_.size());
      numbers_.push_back({view.numbers.At(bit), num_cells, num_cells});
    });
    ForEach(cells_, [&](int bit) {
      const B key = Dilate(B::One(bit)) & view.opened;
      auto c = std::find_if(classes_.begin(), classes_.end(),
                            [&](const Class& other) { return other.key == key; });
      if (c == classes_.end()) {
        classes_.push_back({B{}, key, 0, {}, 0.0, {}, {}, {}});
        c = classes_.end() - 1;
        ForEach(key, [&](int number) { c->numbers.push_back(number_of[number]); });
      }
      c->cells |= B::One(bit);
      ++c->size;
    });
  }

  // Greedy: next comes the class that leaves the fewest numbers in play. Gives numbers their slots.
  void OrderClasses() {
    std::uint64_t used = 0;
    for (std::size_t at = 0; at < classes_.size(); ++at) {
      std::size_t best = at;
      int best_growth = 1 << 30;
      for (std::size_t i = at; i < classes_.size(); ++i) {
        int growth = 0;
        bool connected = at == 0;
        for (int n : classes_[i].numbers) {
          connected |= numbers_[n].slot >= 0;
          growth += (numbers_[n].slot < 0) - (numbers_[n].num_left == classes_[i].size);
        }
        if (connected && growth < best_growth) best = i, best_growth = growth;
      }
      std::swap(classes_[at], classes_[best]);
      Class& c = classes_[at];
      for (int i : c.numbers) {
        Number& n = numbers_[i];
        if (n.slot < 0) {
          n.slot = std::countr_one(used);
          used |= std::uint64_t{1} << n.slot;
          num_slots_ = std::max(num_slots_, n.slot + 1);
          if (num_slots_ > kMaxSlots) return;
          c.opening[n.slot / 16] |= static_cast<std::uint64_t>(n.count) << n.slot % 16 * 4;
        }
        c.unit[n.slot / 16] |= std::uint64_t{1} << n.slot % 16 * 4;
        n.num_left -= c.size;
        c.limits.emplace_back(n.slot, n.num_left);
      }
      for (int i : c.numbers) {
        if (numbers_[i].num_left == 0) used &= ~(std::uint64_t{1} << numbers_[i].slot);
      }
    }
  }

  bool Advance(const Class& c, std::size_t& budget) {
    const std::vector<double> choose = Binomials(c.size);
    const Layer& from = layers_.back();
    Layer to;
    index_.assign(64, kEmpty);
    for (std::uint32_t i = 0; i < from.states.size(); ++i) {
      State state = from.states[i];
      for (int k = 0; k < 2; ++k) state.missing[k] += c.opening[k];
      int low = 0, high = std::min(c.size, num_mines_ - state.mines);
      for (const auto& [slot, left] : c.limits) {
        const int missing = static_cast<int>(state.missing[slot / 16] >> slot % 16 * 4 & 15);
        low = std::max(low, missing - left);
        high = std::min(high, missing);
      }
      for (int n = low; n <= high; ++n) {
        if (budget == 0) return false;
        --budget;
        State next = state;
        for (int k = 0; k < 2; ++k) next.missing[k] -= c.unit[k] * static_cast<std::uint64_t>(n);
        next.mines += n;
        const std::uint32_t target = Find(to, next);
        to.ways[target] += from.ways[i] * choose[n];
        to.edges.push_back({i, target, n});
      }
    }
    layers_.push_back(std::move(to));
    return true;
  }

  // Index of the state in the layer, which gets it if it is new.
  std::uint32_t Find(Layer& layer, const State& state) {
    const auto slot_of = [&](const State& s) {
      const std::uint64_t hash =
          (s.missing[0] ^ s.missing[1] * 0x9fb21c651e98df25u) + static_cast<unsigned>(s.mines);
      return static_cast<std::size_t>(hash * 0x9e3779b97f4a7c15u >> 32) & (index_.size() - 1);
    };
    if (layer.states.size() * 2 >= index_.size()) {
      index_.assign(index_.size() * 4, kEmpty);
      for (std::uint32_t i = 0; i < layer.states.size(); ++i) {
        std::size_t slot = slot_of(layer.states[i]);
        while (index_[slot] != kEmpty) slot = (slot + 1) & (index_.size() - 1);
        index_[slot] = i;
      }
    }
    std::size_t slot = slot_of(state);
    for (; index_[slot] != kEmpty; slot = (slot + 1) & (index_.size() - 1)) {
      if (layer.states[index_[slot]] == state) return index_[slot];
    }
    index_[slot] = static_cast<std::uint32_t>(layer.states.size());
    layer.states.push_back(state);
    layer.ways.push_back(0.0);
    return index_[slot];
  }

  void Backward(const std::vector<double>& others) {
    std::vector<double> after, before;  // ways to go on from each state of a layer
    for (const State& state : layers_.back().states)
      after.push_back(others[static_cast<std::size_t>(state.mines)]);
    for (std::size_t at = classes_.size(); at-- > 0;) {
      Class& c = classes_[at];
      const Layer& from = layers_[at];
      const std::vector<double> choose = Binomials(c.size);
      before.assign(from.states.size(), 0.0);
      double mined = 0.0, safe = 0.0;  // both sums exact where they are 0, hence so are 0 and 1
      for (const Edge& edge : layers_[at + 1].edges) {
        const double ways = choose[edge.mines] * after[edge.to];
        before[edge.from] += ways;
        mined += from.ways[edge.from] * ways * edge.mines;
        safe += from.ways[edge.from] * ways * (c.size - edge.mines);
      }
      c.probability = mined / (mined + safe);
      after.swap(before);
    }
  }

  static constexpr std::uint32_t kEmpty = 0xffffffffu;

  int num_mines_, num_slots_ = 0;
  B cells_;
  std::vector<Number> numbers_;
  std::vector<Class> classes_;
  std::vector<Layer> layers_;
  std::vector<double> ways_;
  std::vector<std::uint32_t> index_;  // hash table over the states of the layer being built
};

// A probability for every hidden cell. The view must have a layout. `exact` is false when a component did not
// fit in `budget` transitions and was estimated.
template <int kWords>
MineProbabilities<kWords> FindMineProbabilities(const Grid<kWords>& grid, const View<kWords>& view,
                                                std::size_t budget = kMaxTransitions) {
  using B = Bits<kWords>;
  MineProbabilities<kWords> out;
  const B hidden = grid.cells & ~view.opened;
  const B apart = hidden & ~Dilate(view.opened);

  std::vector<Component<kWords>> components;
  for (B left = hidden & ~apart; left.Any();) {
    B cells = B::One(left.First());
    for (B last; last != cells;) {
      last = cells;
      cells = Dilate(Dilate(cells) & view.opened) & hidden;
    }
    left &= ~cells;
    components.emplace_back(view, hidden, cells);
    if (!components.back().Count(budget)) {
      components.back().Estimate();
      out.exact = false;
    }
  }

  // before[i], after[i]: ways of the components before i, and of those from i on with the cells apart.
  const int num_apart = apart.Count(), m = view.num_mines;
  const std::size_t n = components.size();
  std::vector<std::vector<double>> before(n + 1, {1.0}), after(n + 1);
  after[n] = Binomials(num_apart);
  for (std::size_t i = 0; i < n; ++i) before[i + 1] = Multiply(before[i], components[i].ways(), m);
  for (std::size_t i = n; i-- > 0;) after[i] = Multiply(after[i + 1], components[i].ways(), m);

  for (std::size_t i = 0; i < n; ++i) {
    const std::vector<double> product = Multiply(before[i], after[i + 1], m);
    std::vector<double> others(static_cast<std::size_t>(m) + 1, 0.0);
    for (std::size_t k = 0; k < product.size(); ++k) others[static_cast<std::size_t>(m) - k] = product[k];
    components[i].Write(others, out);
  }
  if (num_apart > 0) {
    double mined = 0.0, safe = 0.0;
    for (int k = 0; k <= std::min(num_apart, m); ++k) {
      const auto rest = static_cast<std::size_t>(m - k);
      if (rest >= before[n].size()) continue;
      mined += before[n][rest] * after[n][k] * k;
      safe += before[n][rest] * after[n][k] * (num_apart - k);
    }
    // Both are 0 only beside an estimated component.
    const double p = mined + safe > 0.0 ? mined / (mined + safe) : 1.0;
    ForEach(apart, [&](int bit) { out.at[bit] = p; });
  }
  return out;
}

}  // namespace lamer::mines
