// lamer_fast._C.AlfworldGame and AlfworldBatch: compiled games, and boards that play them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "core/parse.h"
#include "envs/alfworld/batch.h"

namespace lamer::bindings {

// A game and the replies that play its commands, made once: lists of them only count references.
struct AlfworldGame {
  explicit AlfworldGame(const py::bytes& data)
      : tables(std::make_shared<const alfworld::Tables>(std::span<const char>{
            PyBytes_AS_STRING(data.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(data.ptr()))})),
        replies(tables->commands().size()) {
    for (std::size_t i = 0; i < replies.size(); ++i) {
      std::string reply(parse_detail::kOpen);
      reply.append(tables->commands()[i]).append(parse_detail::kClose);
      replies[i] = py::str(reply);
    }
  }

  std::shared_ptr<const alfworld::Tables> tables;
  py::tuple replies;
};

class AlfworldBatch {
 public:
  AlfworldBatch(std::int64_t num_envs, int num_threads)
      : batch(num_envs, num_threads), games(batch.num_envs()) {}

  std::vector<std::shared_ptr<const alfworld::Tables>> Tables(const py::list& list) const {
    std::vector<std::shared_ptr<const alfworld::Tables>> tables;
    for (const auto& game : list) tables.push_back(py::cast<const AlfworldGame&>(game).tables);
    return tables;
  }

  void Keep(const py::list& list, const EnvIdx& idx) {
    for (std::size_t i = 0; i < idx.size(); ++i) games[idx[i]] = list[i];
  }

  py::tuple Step(const py::list& commands, const py::object& env_idx) {
    const Idx idx(env_idx, batch.num_envs());
    std::vector<std::optional<std::string_view>> texts(commands.size());
    std::vector<py::object> owners(commands.size());
    for (std::size_t i = 0; i < commands.size(); ++i) {
      const py::handle command = PyList_GET_ITEM(commands.ptr(), static_cast<py::ssize_t>(i));
      if (!command.is_none()) texts[i] = Bytes(command, i, owners[i], "commands");
    }
    Array<bool> done(idx.size()), success(idx.size()), won(idx.size()), unclear(idx.size());
    const alfworld::TurnsOut out{done.mutable_data(), success.mutable_data(), won.mutable_data(),
                                 unclear.mutable_data()};
    {
      const py::gil_scoped_release release;
      batch.Step(texts, idx.idx, out);
    }
    return py::make_tuple(done, success, won, unclear);
  }

  py::list Texts(const py::object& env_idx) {
    const Idx idx(env_idx, batch.num_envs());
    std::vector<std::string> written(idx.idx.size());
    {
      const py::gil_scoped_release release;
      batch.Texts(idx.idx, written);
    }
    py::list texts(written.size());
    for (std::size_t i = 0; i < written.size(); ++i) {
      py::object text = Text(written[i].data(), static_cast<py::ssize_t>(written[i].size()));
      if (!text) throw py::error_already_set();
      PyList_SET_ITEM(texts.ptr(), static_cast<py::ssize_t>(i), text.release().ptr());
    }
    return texts;
  }

  py::list Replies(const py::object& env_idx) {
    const Idx idx(env_idx, batch.num_envs());
    std::vector<alfworld::Numbers> commands(idx.idx.size());
    {
      const py::gil_scoped_release release;
      batch.Commands(idx.idx, commands);
    }
    py::list lists(commands.size());
    for (std::size_t i = 0; i < commands.size(); ++i) {
      PyObject* list = PyList_New(static_cast<py::ssize_t>(commands[i].size()));
      if (list == nullptr) throw py::error_already_set();
      PyList_SET_ITEM(lists.ptr(), static_cast<py::ssize_t>(i), list);
      if (commands[i].empty()) continue;
      PyObject* all = py::cast<const AlfworldGame&>(games[idx.idx[i]]).replies.ptr();
      for (std::size_t k = 0; k < commands[i].size(); ++k) {
        PyObject* reply = PyTuple_GET_ITEM(all, commands[i][k]);
        Py_INCREF(reply);
        PyList_SET_ITEM(list, static_cast<py::ssize_t>(k), reply);
      }
    }
    return lists;
  }

  alfworld::Batch batch;
  std::vector<py::object> games;  // of the boards, for their replies
};

inline void BindAlfworld(py::module_& m) {
  const auto env_idx = [] { return py::arg("env_idx") = py::none(); };
  py::class_<AlfworldGame>(m, "AlfworldGame")
      .def(py::init<const py::bytes&>(), py::arg("data"))
      .def_property_readonly("digest", [](const AlfworldGame& self) { return self.tables->digest(); })
      .def_property_readonly("intro",
                             [](const AlfworldGame& self) {
                               alfworld::Board board;
                               board.Start(self.tables);
                               std::string text;
                               board.Write(text);
                               return py::str(text);
                             })
      .def_readonly("replies", &AlfworldGame::replies);
  py::class_<AlfworldBatch>(m, "AlfworldBatch")
      .def(py::init<std::int64_t, int>(), py::arg("num_envs"), py::kw_only(), py::arg("num_threads") = 1)
      .def_property_readonly("num_envs", [](const AlfworldBatch& self) { return self.batch.num_envs(); })
      .def(
          "reset",
          [](AlfworldBatch& self, const py::list& games, const py::object& env_idx) {
            const Idx idx(env_idx, self.batch.num_envs());
            self.batch.Reset(self.Tables(games), idx.idx);
            self.Keep(games, idx.idx);
          },
          py::arg("games"), env_idx())
      .def(
          "restart",
          [](AlfworldBatch& self, const py::object& env_idx) {
            self.batch.Restart(Idx(env_idx, self.batch.num_envs()).idx);
          },
          env_idx())
      .def("step", &AlfworldBatch::Step, py::arg("commands"), env_idx())
      .def("texts", &AlfworldBatch::Texts, env_idx())
      .def("replies", &AlfworldBatch::Replies, env_idx())
      .def(
          "anchors",
          [](AlfworldBatch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.batch.num_envs());
            Array<std::int64_t> anchors(idx.size());
            self.batch.Anchors(idx.idx, Out(anchors));
            return anchors;
          },
          env_idx())
      .def(
          "flags",
          [](AlfworldBatch& self, const py::object& env_idx) {
            const Idx idx(env_idx, self.batch.num_envs());
            Array<bool> done(idx.size()), success(idx.size());
            self.batch.Flags(idx.idx, done.mutable_data(), success.mutable_data());
            return py::make_tuple(done, success);
          },
          env_idx())
      .def(
          "snapshot",
          [](AlfworldBatch& self, const py::object& env_idx) {
            return py::bytes(self.batch.Snapshot(Idx(env_idx, self.batch.num_envs()).idx));
          },
          env_idx())
      .def(
          "restore",
          [](AlfworldBatch& self, const py::bytes& data, const py::list& games, const py::object& env_idx) {
            const Idx idx(env_idx, self.batch.num_envs());
            const std::span<const char> span{PyBytes_AS_STRING(data.ptr()),
                                             static_cast<std::size_t>(PyBytes_GET_SIZE(data.ptr()))};
            self.batch.Restore(span, self.Tables(games), idx.idx);
            self.Keep(games, idx.idx);
          },
          py::arg("data"), py::arg("games"), env_idx());
}

}  // namespace lamer::bindings
