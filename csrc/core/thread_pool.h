// A parked pool that splits [0, n) into static contiguous chunks, so that results never depend on timing.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
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
    using Chunk = decltype(chunk);
    state_->Run(
        num_chunks, [](const void* work, std::size_t c) { (*static_cast<const Chunk*>(work))(c); }, &chunk);
  }

 private:
  // Looks before a thread sleeps, at most about 20 us, so that calls that follow each other wake nobody. A
  // thread that looked in vain, the machine being busy or no call coming, looks half as long the next time.
  static constexpr int kMinSpins = 8, kMaxSpins = 1024;

  // A counter that threads wait for. Not atomic::wait: libstdc++ yields inside it, and on a busy machine a
  // yield gives the processor away for a whole time slice.
  struct alignas(64) Counter {
    std::atomic<std::uint32_t> value{0};
    std::mutex mutex;
    std::condition_variable changed;

    void Wake() {
      {
        const std::lock_guard lock(mutex);
      }
      changed.notify_all();
    }

    // Returns when the value is not `old` any more.
    void WaitWhile(std::uint32_t old, int& spins) {
      for (int spin = 0; spin < spins; ++spin) {
        if (value.load(std::memory_order_acquire) != old) {
          spins = std::min(2 * spins, kMaxSpins);
          return;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
      spins = std::max(spins / 2, kMinSpins);
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return value.load(std::memory_order_acquire) != old; });
    }
  };

  struct State {
    using Work = void (*)(const void* work, std::size_t chunk);

    // Written by the caller between rounds, when all workers wait for the next one.
    Work run = nullptr;
    const void* work = nullptr;
    std::size_t num_chunks = 0;
    std::vector<std::exception_ptr> errors;  // [num_chunks]
    bool stop = false;
    int caller_spins = kMaxSpins;
    Counter round, num_running;
    std::vector<std::thread> threads;

    // Worker w takes chunk w + 1, if there is one; the caller takes chunk 0.
    void Serve(std::size_t worker) {
      int spins = kMaxSpins;
      for (std::uint32_t seen = 0;;) {
        round.WaitWhile(seen, spins);
        seen = round.value.load(std::memory_order_acquire);
        if (stop) return;
        if (worker + 1 < num_chunks) Guarded(worker + 1);
        if (num_running.value.fetch_sub(1, std::memory_order_acq_rel) == 1) num_running.Wake();
      }
    }

    void Run(std::size_t count, Work run_chunk, const void* chunk_work) {
      run = run_chunk;
      work = chunk_work;
      num_chunks = count;
      errors.assign(count, nullptr);
      num_running.value.store(static_cast<std::uint32_t>(threads.size()), std::memory_order_relaxed);
      NextRound();
      Guarded(0);
      for (std::uint32_t left; (left = num_running.value.load(std::memory_order_acquire)) != 0;)
        num_running.WaitWhile(left, caller_spins);
      for (const auto& error : errors) {
        if (error) std::rethrow_exception(error);
      }
    }

    void NextRound() {
      round.value.fetch_add(1, std::memory_order_release);
      round.Wake();
    }

    void Guarded(std::size_t c) {
      try {
        run(work, c);
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
    try {
      for (int i = 0; i + 1 < num_threads_; ++i) {
        state_->threads.emplace_back(
            [state = state_.get(), i] { state->Serve(static_cast<std::size_t>(i)); });
      }
    } catch (const std::system_error&) {
      const std::size_t num_started = state_->threads.size();
      Stop();
      state_.reset();
      throw std::runtime_error("the system gave " + std::to_string(num_started) + " of " +
                               std::to_string(num_threads_ - 1) + " threads");
    }
  }

  void Stop() {
    if (!state_) return;
    if (owner_ != getpid()) {
      static_cast<void>(state_.release());
      return;
    }
    state_->stop = true;
    state_->NextRound();
    for (auto& thread : state_->threads) thread.join();
  }

  int num_threads_;
  pid_t owner_ = 0;
  std::unique_ptr<State> state_;
};

}  // namespace lamer
