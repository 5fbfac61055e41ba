// Bind<Env>(): the Python class of a batch; arrays in, arrays out, the GIL released while boards are at work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "core/batch_env.h"
#include "core/tasks.h"

namespace lamer::bindings {

// The rule of each board of a game that hides one.
template <typename Batch>
Array<std::int32_t> Rules(Batch& self, const py::object& env_idx) {
  const Idx idx(env_idx, self.num_envs());
  Array<std::int32_t> rules(idx.size());
  auto* out = rules.mutable_data();
  self.Map(idx.idx, Batch::kMinStepChunk, [&](std::size_t i, const auto& board) { out[i] = board.rule; });
  return rules;
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
  const TurnOut turn{per_action.mutable_data(), rewards.mutable_data(), executed.mutable_data(),
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
  const Style style = ParseStyle(style_name);
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
  const Style style = ParseStyle(style_name);
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
    const ParseOut parsed = self.env().Parse(
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
            return NumTasks(self.env(), self.batch().split, num_draws);
          },
          py::arg("num_draws") = 200'000)
      .def(
          "distinct_seeds",
          [](const Batch& self, std::uint64_t count, std::uint64_t patience) {
            std::vector<std::uint64_t> seeds;
            {
              const py::gil_scoped_release release;
              seeds = DistinctSeeds(self.env(), self.batch().split, count, patience);
            }
            return Array<std::uint64_t>(static_cast<py::ssize_t>(seeds.size()), seeds.data());
          },
          py::arg("count"), py::arg("patience") = 100'000);
}

}  // namespace lamer::bindings
