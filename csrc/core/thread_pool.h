// A parked pool that splits [0, n) into static contiguous chunks, so that results never depend on timing.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace lamer {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads) : num_threads_(std::max(1, num_threads)) {}
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() { Stop(); }

  int num_threads() const { return num_threads_; }

  // Calls fn(begin, end) over chunks of [0, n), inline when n < 2 * min_chunk: waking a parked thread costs
  // 5-20 us. If chunks throw, all run to their end and the exception of the first throwing chunk is rethrown.
  template <typename Fn>
  void For(std::size_t n, std::size_t min_chunk, Fn&& fn) {
    const std::size_t num_chunks = std::min<std::size_t>(static_cast<std::size_t>(num_threads_),
                                                         n / std::max<std::size_t>(1, min_chunk));
    if (num_chunks <= 1) {
      if (n != 0) fn(std::size_t{0}, n);
      return;
    }
    Start();
    const auto chunk = [&](std::size_t c) { fn(n * c / num_chunks, n * (c + 1) / num_chunks); };
    state_->Run(num_chunks, chunk);
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable wake, finished;
    std::function<void(std::size_t)> chunk;
    std::size_t num_chunks = 0;
    std::size_t num_running = 0;
    std::size_t round = 0;
    bool stop = false;
    std::vector<std::exception_ptr> errors;
    std::vector<std::thread> threads;

    // Worker w takes chunk w + 1; the caller takes chunk 0.
    void Work(std::size_t worker) {
      std::size_t seen = 0;
      for (;;) {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stop || round != seen; });
        if (stop) return;
        seen = round;
        if (worker + 1 >= num_chunks) continue;
        lock.unlock();
        Guarded(worker + 1);
        lock.lock();
        if (--num_running == 0) finished.notify_one();
      }
    }

    void Run(std::size_t count, std::function<void(std::size_t)> fn) {
      {
        const std::lock_guard lock(mutex);
        chunk = std::move(fn);
        num_chunks = count;
        num_running = count - 1;
        errors.assign(count, nullptr);
        ++round;
      }
      wake.notify_all();
      Guarded(0);
      std::unique_lock lock(mutex);
      finished.wait(lock, [&] { return num_running == 0; });
      for (const auto& error : errors) {
        if (error) std::rethrow_exception(error);
      }
    }

    void Guarded(std::size_t c) {
      try {
        chunk(c);
      } catch (...) {
        errors[c] = std::current_exception();
      }
    }
  };

  void Start() {
    if (state_ && owner_ == getpid()) return;
    // After a fork the threads exist in the parent only: their state is given up, never joined.
    static_cast<void>(state_.release());
    owner_ = getpid();
    state_ = std::make_unique<State>();
    for (int i = 0; i + 1 < num_threads_; ++i) {
      state_->threads.emplace_back([state = state_.get(), i] { state->Work(static_cast<std::size_t>(i)); });
    }
  }

  void Stop() {
    if (!state_) return;
    if (owner_ != getpid()) {
      static_cast<void>(state_.release());
      return;
    }
    {
      const std::lock_guard lock(state_->mutex);
      state_->stop = true;
    }
    state_->wake.notify_all();
    for (auto& thread : state_->threads) thread.join();
  }

  int num_threads_;
  pid_t owner_ = 0;
  std::unique_ptr<State> state_;
};

}  // namespace lamer
