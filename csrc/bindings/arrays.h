// NumPy arrays and strings at the border: never converted, wrong ones are errors that name what disagrees.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/batch_config.h"

namespace lamer::bindings {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string TypeName(py::handle value) { return py::str(py::type::handle_of(value).attr("__name__")); }

inline std::string ShapeText(const py::array& array) { return py::str(array.attr("shape")); }

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
inline py::object Element(const py::object& out, std::size_t i, std::size_t size) {
  if (out.is_none()) return py::none();
  const auto tuple = py::cast<py::tuple>(out);
  if (tuple.size() != size) {
    throw py::value_error("out has " + std::to_string(tuple.size()) + " arrays, expected " +
                          std::to_string(size));
  }
  return tuple[i];
}

inline py::object Text(const char* data, py::ssize_t size) {
  unsigned char high = 0;
  for (py::ssize_t i = 0; i < size; ++i) high |= static_cast<unsigned char>(data[i]);
  if (high >= 0x80) return py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(data, size, nullptr));
  PyObject* text = PyUnicode_New(size, 127);
  if (text == nullptr) throw py::error_already_set();
  std::memcpy(PyUnicode_1BYTE_DATA(text), data, static_cast<std::size_t>(size));
  return py::reinterpret_steal<py::object>(text);
}

// The bytes of a str, whatever it holds: lone surrogates become '?'. `owner` keeps them alive.
inline std::string_view Bytes(py::handle text, std::size_t i, py::object& owner,
                              const char* name = "replies") {
  if (!PyUnicode_Check(text.ptr())) {
    throw py::type_error(std::string(name) + "[" + std::to_string(i) + "] must be a str, got " +
                         TypeName(text));
  }
  py::ssize_t size = 0;
  if (const char* data = PyUnicode_AsUTF8AndSize(text.ptr(), &size))
    return {data, static_cast<std::size_t>(size)};
  PyErr_Clear();
  owner = py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "replace"));
  if (!owner) throw py::error_already_set();
  return {PyBytes_AS_STRING(owner.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(owner.ptr()))};
}

}  // namespace lamer::bindings
