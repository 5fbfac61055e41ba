// The only file that includes pybind11. One Bind<Env>() call per environment; arrays in, arrays out, GIL
// released.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <utility>

#include "core/batch_env.h"
#include "core/simd.h"
#include "core/tasks.h"
#include "envs/minesweeper.h"
#include "envs/sokoban.h"

namespace py = pybind11;

namespace {

using lamer::BatchConfig;
using lamer::BatchEnv;
using lamer::EnvIdx;
using lamer::Style;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

std::string TypeName(py::handle value) { return py::str(py::type::handle_of(value).attr("__name__")); }

std::string ShapeText(const py::array& array) { return py::str(array.attr("shape")); }

// The array itself, never a copy: a wrong dtype or layout is an error that names both.
template <typename T>
Array<T> Need(py::handle value, const char* name, py::ssize_t ndim) {
  if (!Array<T>::check_(value)) {
    const std::string wanted = py::str(py::dtype::of<T>());
    if (!py::isinstance<py::array>(value)) {
      throw py::type_error(std::string(name) + " must be a numpy array of " + wanted + ", got " +
                           TypeName(value));
    }
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (!array.dtype().is(py::dtype::of<T>())) {
      throw py::type_error(std::string(name) + " must be " + wanted + ", got " +
                           std::string(py::str(array.dtype())));
    }
    throw py::value_error(std::string(name) + " must be C-contiguous, its strides are " +
                          std::string(py::str(array.attr("strides"))));
  }
  auto array = py::reinterpret_borrow<Array<T>>(value);
  if (array.ndim() != ndim) {
    throw py::value_error(std::string(name) + " must have " + std::to_string(ndim) +
                          " dimensions, its shape is " + ShapeText(array));
  }
  return array;
}

// A caller's buffer or a new one, of exactly this shape.
template <typename T>
Array<T> Output(py::handle value, const char* name, std::vector<py::ssize_t> shape) {
  if (value.is_none()) return Array<T>(std::move(shape));
  auto array = Need<T>(value, name, static_cast<py::ssize_t>(shape.size()));
  if (!array.writeable()) throw py::value_error(std::string(name) + " is read-only");
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (array.shape(static_cast<py::ssize_t>(i)) == shape[i]) continue;
    throw py::value_error(std::string(name) + " has shape " + ShapeText(array) + ", expected " +
                          std::string(py::str(py::cast(shape))));
  }
  return array;
}

template <typename T>
std::span<const T> In(const Array<T>& a) {
  return {a.data(), static_cast<std::size_t>(a.size())};
}

template <typename T>
std::span<T> Out(Array<T>& a) {
  return {a.mutable_data(), static_cast<std::size_t>(a.size())};
}

// env_idx of a call: None for all boards, or int64 [B], kept alive here.
struct Idx {
  Idx(py::handle value, std::size_t num_envs)
      : array(value.is_none() ? Array<std::int64_t>() : Need<std::int64_t>(value, "env_idx", 1)),
        idx(value.is_none() ? EnvIdx(num_envs) : EnvIdx(In(array))) {}
  py::ssize_t size() const { return static_cast<py::ssize_t>(idx.size()); }

  Array<std::int64_t> array;
  EnvIdx idx;
};

// Element i of a caller's tuple of buffers, or None.
py::object Element(const py::object& out, std::size_t i, std::size_t size) {
  if (out.is_none()) return py::none();
  const auto tuple = py::cast<py::tuple>(out);
  if (tuple.size() != size) {
    throw py::value_error("out has " + std::to_string(tuple.size()) + " arrays, expected " +
                          std::to_string(size));
  }
  return tuple[i];
}

py::object Text(const char* data, py::ssize_t size) {
  unsigned char high = 0;
  for (py::ssize_t i = 0; i < size; ++i) high |= static_cast<unsigned char>(data[i]);
  if (high >= 0x80) return py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(data, size, nullptr));
  PyObject* text = PyUnicode_New(size, 127);
  if (text == nullptr) throw py::error_already_set();
  std::memcpy(PyUnicode_1BYTE_DATA(text), data, static_cast<std::size_t>(size));
  return py::reinterpret_steal<py::object>(text);
}

template <typename Batch>
py::tuple Step(Batch& self, const py::object& actions, const py::object& lengths, const py::object& env_idx,
               const py::object& out) {
  const Idx idx(env_idx, self.num_envs());
  const auto a = Need<std::int32_t>(actions, "actions", 2);
  const py::ssize_t num_boards = idx.size(), k = a.shape(1);
  if (a.shape(0) != num_boards) {
    throw py::value_error("actions has " + std::to_string(a.shape(0)) + " rows, expected " +
                          std::to_string(num_boards) + ", one per board");
  }
  Array<std::int32_t> l;
  if (!lengths.is_none()) l = Need<std::int32_t>(lengths, "lengths", 1);
  if (!lengths.is_none() && l.size() != num_boards) {
    throw py::value_error("lengths has " + std::to_string(l.size()) + " values, expected " +
                          std::to_string(num_boards) + ", one per board");
  }
  auto per_action = Output<float>(Element(out, 0, 6), "rewards_per_action", {num_boards, k});
  auto rewards = Output<float>(Element(out, 1, 6), "rewards", {num_boards});
  auto executed = Output<std::int32_t>(Element(out, 2, 6), "executed", {num_boards});
  auto done = Output<bool>(Element(out, 3, 6), "done", {num_boards});
  auto success = Output<bool>(Element(out, 4, 6), "success", {num_boards});
  auto dead = Output<bool>(Element(out, 5, 6), "dead", {num_boards});
  const lamer::TurnOut turn{per_action.mutable_data(), rewards.mutable_data(), executed.mutable_data(),
                            done.mutable_data(),       success.mutable_data(), dead.mutable_data()};
  const auto a_span = In(a), l_span = In(l);
  {
    const py::gil_scoped_release release;
    self.Step(a_span, static_cast<std::size_t>(k), l_span, idx.idx, turn);
  }
  return py::make_tuple(per_action, rewards, executed, done, success, dead);
}

template <typename Batch>
py::tuple Observe(Batch& self, const py::object& env_idx, const std::string& style_name,
                  const py::object& out) {
  const Style style = lamer::ParseStyle(style_name);
  const Idx idx(env_idx, self.num_envs());
  Array<std::uint8_t> arena;
  if (out.is_none()) {
    arena = Array<std::uint8_t>(static_cast<py::ssize_t>(self.TextBytes(style, idx.idx)));
  } else {
    arena = Need<std::uint8_t>(Element(out, 0, 2), "arena", 1);
    if (!arena.writeable()) throw py::value_error("arena is read-only");
  }
  auto offsets = Output<std::int64_t>(Element(out, 1, 2), "offsets", {idx.size() + 1});
  const auto offsets_span = Out(offsets);
  const std::span<char> arena_span{reinterpret_cast<char*>(arena.mutable_data()),
                                   static_cast<std::size_t>(arena.size())};
  {
    const py::gil_scoped_release release;
    self.Render(style, idx.idx, offsets_span, arena_span);
  }
  return py::make_tuple(arena, offsets);
}

template <typename Batch>
py::list Texts(Batch& self, const py::object& env_idx, const std::string& style_name) {
  const Style style = lamer::ParseStyle(style_name);
  const Idx idx(env_idx, self.num_envs());
  thread_local std::vector<std::int64_t> offsets;
  thread_local std::vector<char> arena;
  offsets.resize(idx.idx.size() + 1);
  {
    const py::gil_scoped_release release;
    arena.resize(std::max(arena.size(), self.TextBytes(style, idx.idx)));
    self.Render(style, idx.idx, offsets, arena);
  }
  py::list texts(idx.idx.size());
  for (std::size_t i = 0; i < idx.idx.size(); ++i) {
    py::object text = Text(arena.data() + offsets[i], static_cast<py::ssize_t>(offsets[i + 1] - offsets[i]));
    if (!text) throw py::error_already_set();
    PyList_SET_ITEM(texts.ptr(), static_cast<py::ssize_t>(i), text.release().ptr());
  }
  return texts;
}

// The bytes of a str, whatever it holds: lone surrogates become '?'. `owner` keeps them alive.
std::string_view Bytes(py::handle text, std::size_t i, py::object& owner) {
  if (!PyUnicode_Check(text.ptr())) {
    throw py::type_error("replies[" + std::to_string(i) + "] must be a str, got " + TypeName(text));
  }
  py::ssize_t size = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size))
    return {data, static_cast<std::size_t>(size)};
  PyErr_Clear();
  owner = py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "replace"));
  if (!owner) throw py::error_already_set();
  return {PyBytes_AS_STRING(owner.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(owner.ptr()))};
}

template <typename Batch>
py::tuple Parse(const Batch& self, const py::list& replies, py::ssize_t max_actions, bool strict) {
  if (max_actions < 1) throw py::value_error("max_actions must be >= 1, got " + std::to_string(max_actions));
  const auto num_replies = static_cast<py::ssize_t>(replies.size());
  Array<std::int32_t> actions({num_replies, max_actions}), lengths(num_replies);
  Array<bool> valid(num_replies);
  std::fill_n(actions.mutable_data(), actions.size(), -1);
  for (py::ssize_t i = 0; i < num_replies; ++i) {
    py::object owner;
    const auto reply = Bytes(PyList_GET_ITEM(replies.ptr(), i), static_cast<std::size_t>(i), owner);
    const lamer::ParseOut parsed = self.env().Parse(
        reply, strict, {actions.mutable_data() + i * max_actions, static_cast<std::size_t>(max_actions)});
    lengths.mutable_data()[i] = parsed.length;
    valid.mutable_data()[i] = parsed.valid;
  }
  return py::make_tuple(actions, lengths, valid);
}

// One value of T per board of the call.
template <typename T, typename Batch>
auto PerBoard(void (Batch::*fill)(EnvIdx, std::span<T>)) {
  return [fill](Batch& self, const py::object& env_idx) {
    const Idx idx(env_idx, self.num_envs());
    Array<T> values(idx.size());
    const auto span = Out(values);
    const py::gil_scoped_release release;
    (self.*fill)(idx.idx, span);
    return values;
  };
}

template <typename Env>
py::class_<BatchEnv<Env>> Bind(py::module_& m, const char* name) {
  using Batch = BatchEnv<Env>;
  const auto env_idx = [] { return py::arg("env_idx") = py::none(); };
  return py::class_<Batch>(m, name)
      .def_property_readonly("num_envs", &Batch::num_envs)
      .def_property_readonly("num_actions", [](const Batch& self) { return self.env().num_actions(); })
      .def_property_readonly("fingerprint", &Batch::Fingerprint)
      .def_property_readonly_static("bytes_per_board",
                                    [](const py::object&) { return Batch::bytes_per_board(); })
      .def(
          "reset",
          [](Batch& self, const py::object& seeds, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            const auto array = Need<std::uint64_t>(seeds, "seeds", 1);
            const auto span = In(array);
            const py::gil_scoped_release release;
            self.Reset(span, idx.idx);
          },
          py::arg("seeds"), env_idx())
      .def(
          "restart",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            const py::gil_scoped_release release;
            self.Restart(idx.idx);
          },
          env_idx())
      .def("step", &Step<Batch>, py::arg("actions"), py::arg("lengths") = py::none(), env_idx(),
           py::arg("out") = py::none())
      .def("observe", &Observe<Batch>, env_idx(), py::arg("style") = "compact", py::arg("out") = py::none())
      .def("texts", &Texts<Batch>, env_idx(), py::arg("style") = "compact")
      .def("parse", &Parse<Batch>, py::arg("replies"), py::arg("max_actions") = 3, py::arg("strict") = false)
      .def("anchors", PerBoard(&Batch::Anchors), env_idx())
      .def("tasks", PerBoard(&Batch::Tasks), env_idx())
      .def("expert_actions", PerBoard(&Batch::ExpertActions), env_idx())
      .def(
          "legal_actions",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            Array<bool> mask({idx.size(), static_cast<py::ssize_t>(self.env().num_actions())});
            const auto span = Out(mask);
            const py::gil_scoped_release release;
            self.LegalActions(idx.idx, span);
            return mask;
          },
          env_idx())
      .def(
          "flags",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            Array<bool> done(idx.size()), success(idx.size()), dead(idx.size());
            self.Flags(idx.idx, done.mutable_data(), success.mutable_data(), dead.mutable_data());
            return py::make_tuple(done, success, dead);
          },
          env_idx())
      .def(
          "snapshot",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            const std::size_t size = Batch::SnapshotSize(idx.idx.size());
            auto bytes = py::reinterpret_steal<py::bytes>(
                PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size)));
            if (!bytes) throw py::error_already_set();
            const std::span<char> span{PyBytes_AS_STRING(bytes.ptr()), size};
            const py::gil_scoped_release release;
            self.Snapshot(idx.idx, span);
            return bytes;
          },
          env_idx())
      .def(
          "restore",
          [](Batch& self, const py::bytes& data, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            const std::span<const char> span{PyBytes_AS_STRING(data.ptr()),
                                             static_cast<std::size_t>(PyBytes_GET_SIZE(data.ptr()))};
            const py::gil_scoped_release release;
            self.Restore(span, idx.idx);
          },
          py::arg("data"), env_idx())
      .def(
          "num_tasks",
          [](const Batch& self, std::uint64_t num_draws) {
            const py::gil_scoped_release release;
            return lamer::NumTasks(self.env(), self.batch().split, num_draws);
          },
          py::arg("num_draws") = 200'000)
      .def(
          "distinct_seeds",
          [](const Batch& self, std::uint64_t count, std::uint64_t patience) {
            std::vector<std::uint64_t> seeds;
            {
              const py::gil_scoped_release release;
              seeds = lamer::DistinctSeeds(self.env(), self.batch().split, count, patience);
            }
            return Array<std::uint64_t>(static_cast<py::ssize_t>(seeds.size()), seeds.data());
          },
          py::arg("count"), py::arg("patience") = 100'000);
}

BatchConfig MakeBatchConfig(int num_threads, const std::optional<std::string>& split,
                            const std::string& turn_reward, bool stop_at_done, const std::string& autoreset) {
  if (turn_reward != "sum" && turn_reward != "last") {
    throw py::value_error("turn_reward must be 'sum' or 'last', got '" + turn_reward + "'");
  }
  return {.num_threads = num_threads,
          .split = split ? lamer::ParseSplit(*split) : lamer::Split::kNone,
          .last_reward = turn_reward == "last",
          .stop_at_done = stop_at_done,
          .autoreset = lamer::ParseAutoreset(autoreset)};
}

// rewards: "lamer", "sparse", or a dict of the named numbers; a name that it leaves out is 0.
using NamedRewards = std::vector<std::pair<const char*, double*>>;
void ReadRewards(const py::object& value, const NamedRewards& fields) {
  if (py::isinstance<py::str>(value)) {
    const auto name = py::cast<std::string>(value);
    if (name == "lamer") return;  // the defaults
    if (name != "sparse")
      throw py::value_error("rewards must be 'lamer', 'sparse' or a dict, got '" + name + "'");
    for (const auto& [field, number] : fields) *number = std::string_view(field) == "win" ? 10.0 : 0.0;
    return;
  }
  if (!py::isinstance<py::dict>(value)) {
    throw py::type_error("rewards must be 'lamer', 'sparse' or a dict, got " + TypeName(value));
  }
  for (const auto& [field, number] : fields) *number = 0.0;
  std::string names;
  for (const auto& [field, number] : fields) names.append(field).append(" ");
  for (const auto& [key, number] : py::cast<py::dict>(value)) {
    const std::string name = py::str(key);
    const auto at =
        std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.first == name; });
    if (at == fields.end()) throw py::value_error("rewards has '" + name + "', expected some of " + names);
    *at->second = py::cast<double>(number);
    if (!std::isfinite(*at->second)) throw py::value_error("reward " + name + " must be finite");
  }
}

void BindSokoban(py::module_& m) {
  using lamer::Sokoban;
  using Batch = BatchEnv<Sokoban>;
  Bind<Sokoban>(m, "SokobanBatch")
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_boxes, int min_moves, int max_moves, bool track_dead,
                       bool end_on_dead, const py::object& rewards,
                       const std::optional<std::vector<std::string>>& levels) {
             Sokoban::Config config{.height = height,
                                    .width = width,
                                    .num_boxes = num_boxes,
                                    .min_moves = min_moves,
                                    .max_moves = max_moves,
                                    .track_dead = track_dead,
                                    .end_on_dead = end_on_dead,
                                    .rewards = {},
                                    .levels = nullptr};
             auto& r = config.rewards;
             ReadRewards(rewards, {{"step", &r.step},
                                   {"on", &r.on},
                                   {"off", &r.off},
                                   {"win", &r.win},
                                   {"dead", &r.dead},
                                   {"invalid", &r.invalid}});
             if (levels)
               config.levels =
                   std::make_shared<lamer::sokoban::LevelSet>(lamer::sokoban::ReadLevels(*levels));
             return std::make_unique<Batch>(
                 num_envs, config, MakeBatchConfig(num_threads, split, turn_reward, stop_at_done, autoreset));
           }),
           py::arg("num_envs"), py::kw_only(), py::arg("num_threads") = 1, py::arg("split") = py::none(),
           py::arg("turn_reward") = "sum", py::arg("stop_at_done") = true, py::arg("autoreset") = "none",
           py::arg("height") = 6, py::arg("width") = 6, py::arg("num_boxes") = 2, py::arg("min_moves") = 5,
           py::arg("max_moves") = 21, py::arg("track_dead") = false, py::arg("end_on_dead") = false,
           py::arg("rewards") = "lamer", py::arg("levels") = py::none())
      .def_property_readonly("height", [](const Batch& self) { return self.env().config().height; })
      .def_property_readonly("width", [](const Batch& self) { return self.env().config().width; })
      .def_property_readonly("num_levels",
                             [](const Batch& self) {
                               const auto& levels = self.env().config().levels;
                               return levels ? levels->levels.size() : std::size_t{0};
                             })
      .def(
          "distances",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            Array<std::int32_t> distances(idx.size());
            auto* out = distances.mutable_data();
            const py::gil_scoped_release release;
            self.Map(idx.idx, Batch::kMinResetChunk,
                     [&](std::size_t i, Sokoban::Board& board) { out[i] = self.env().Distance(board); });
            return distances;
          },
          py::arg("env_idx") = py::none());
}

// Boards with given mines, as reset makes them. No board changes unless all can be laid.
template <typename Env>
void LayBoards(BatchEnv<Env>& self, const py::object& mines, const py::object& first,
               const py::object& env_idx) {
  const Idx idx(env_idx, self.num_envs());
  const auto is_mine = Need<bool>(mines, "mines", 2);
  const auto cells = Need<std::int32_t>(first, "first", 1);
  const py::ssize_t num_cells = self.env().num_actions();
  if (is_mine.shape(0) != idx.size() || is_mine.shape(1) != num_cells || cells.size() != idx.size()) {
    throw py::value_error("mines has shape " + ShapeText(is_mine) + " and first " + ShapeText(cells) +
                          ", expected (" + std::to_string(idx.size()) + ", " + std::to_string(num_cells) +
                          ") and (" + std::to_string(idx.size()) + ",)");
  }
  std::vector<typename Env::Board> boards(idx.idx.size());
  for (std::size_t i = 0; i < boards.size(); ++i) {
    const auto row = static_cast<py::ssize_t>(i);
    self.env().Lay(boards[i], In(is_mine).subspan(i * num_cells, num_cells), cells.at(row));
  }
  self.Map(idx.idx, boards.size() + 1, [&](std::size_t i, typename Env::Board& board) { board = boards[i]; });
}

template <typename Env>
void BindMinesweeper(py::module_& m, const char* name) {
  using Batch = BatchEnv<Env>;
  Bind<Env>(m, name)
      .def(py::init([](std::int64_t num_envs, int num_threads, const std::optional<std::string>& split,
                       const std::string& turn_reward, bool stop_at_done, const std::string& autoreset,
                       int height, int width, int num_mines, const std::string& first_click, bool no_guess,
                       int max_tries, const py::object& rewards) {
             if (first_click != "env" && first_click != "agent") {
               throw py::value_error("first_click must be 'env' or 'agent', got '" + first_click + "'");
             }
             lamer::MinesweeperConfig config;
             config.height = height;
             config.width = width;
             config.num_mines = num_mines;
             config.first_click =
                 first_click == "env" ? lamer::mines::FirstClick::kEnv : lamer::mines::FirstClick::kAgent;
             config.no_guess = no_guess;
             config.max_tries = max_tries;
             auto& r = config.rewards;
             ReadRewards(rewards, {{"win", &r.win},
                                   {"open", &r.open},
                                   {"cascade", &r.cascade},
                                   {"mine", &r.mine},
                                   {"invalid", &r.invalid}});
             return std::make_unique<Batch>(
                 num_envs, config, MakeBatchConfig(num_threads, split, turn_reward, stop_at_done, autoreset));
           }),
           py::arg("num_envs"), py::kw_only(), py::arg("num_threads") = 1, py::arg("split") = py::none(),
           py::arg("turn_reward") = "sum", py::arg("stop_at_done") = true, py::arg("autoreset") = "none",
           py::arg("height") = 6, py::arg("width") = 6, py::arg("num_mines") = 3,
           py::arg("first_click") = "env", py::arg("no_guess") = false, py::arg("max_tries") = 100'000,
           py::arg("rewards") = "lamer")
      .def_property_readonly("height", [](const Batch& self) { return self.env().config().height; })
      .def_property_readonly("width", [](const Batch& self) { return self.env().config().width; })
      .def_property_readonly("num_mines", [](const Batch& self) { return self.env().config().num_mines; })
      .def("lay", &LayBoards<Env>, py::arg("mines"), py::arg("first"), py::arg("env_idx") = py::none())
      .def(
          "mine_probabilities",
          [](Batch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.num_envs());
            const auto num_cells = static_cast<std::size_t>(self.env().num_actions());
            Array<double> probabilities({idx.size(), static_cast<py::ssize_t>(num_cells)});
            Array<bool> exact(idx.size());
            const auto span = Out(probabilities);
            auto* is_exact = exact.mutable_data();
            {
              const py::gil_scoped_release release;
              self.Map(idx.idx, Batch::kMinResetChunk, [&](std::size_t i, typename Env::Board& board) {
                is_exact[i] = self.env().FindMineProbabilities(board, span.subspan(i * num_cells, num_cells));
              });
            }
            return py::make_tuple(probabilities, exact);
          },
          py::arg("env_idx") = py::none());
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  BindSokoban(m);
  BindMinesweeper<lamer::Minesweeper>(m, "MinesweeperBatch");            // up to 8x8
  BindMinesweeper<lamer::MinesweeperLarge>(m, "MinesweeperLargeBatch");  // up to 16x16
  m.def("set_simd_level", [](const std::string& name) { lamer::SetSimdLevel(name); }, py::arg("name"));
  m.def("simd_level", [] { return lamer::kSimdNames[static_cast<int>(lamer::ActiveSimd())]; });
  m.def(
      "split_of", [](std::uint64_t task) { return lamer::SplitName(lamer::SplitOf(task)); }, py::arg("task"));
}
