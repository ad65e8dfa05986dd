// Threads that take the steps of one computation together. Torch-free.
//
// A parallel region costs microseconds to enter and to leave; where its threads wait for each other, as
// OpenMP's do, a step takes a scheduler's whole time slice once another process has one of the processors. So
// there is one region for all steps, and in it nobody waits for a thread that has not begun: whoever is there
// takes what is left of a step.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace pixeltier {

// One leader, who takes the steps in order, and helpers. A step has at most kMost tasks.
class Team {
 public:
  static constexpr int64_t kMost = 32;

  // For the leader: runs task 0 to tasks - 1 and returns when all are done; throws what one of them threw.
  template <class Task>
  void share(int64_t tasks, const Task& task) {
    call_ = [](const void* context, int64_t i) { (*static_cast<const Task*>(context))(i); };
    context_ = &task;
    done_.store(0, std::memory_order_relaxed);
    const uint64_t all = (uint64_t{1} << tasks) - 1;
    step_.store(((step_.load() >> kMost) + 1) << kMost | all);
    step_.notify_all();
    while (take(0, step_.load())) {
    }
    for (int64_t done = done_.load(); done < tasks; done = done_.load())
      if (!spin([&] { return done_.load() != done; })) done_.wait(done);
    if (failed_.load()) std::rethrow_exception(failure_);
  }

  // For a helper: takes part until the leader finishes. Of a step's tasks, that of its own number comes
  // first.
  void help(int64_t member) {
    for (uint64_t step = step_.load(); step != kFinished; step = step_.load())
      if (!take(member, step) && !spin([&] { return step_.load() != step; })) step_.wait(step);
  }

  // For the leader: there are no more steps.
  void finish() {
    step_.store(kFinished);
    step_.notify_all();
  }

 private:
  static constexpr uint64_t kFinished = ~uint64_t{0};
  static constexpr int kSpins = 5000;  // some 50 microseconds: more than most waits, less than a time slice

  // Takes one task of `step`, if there is one left and the step is still that; while it is not done, the
  // leader cannot go on to the next.
  bool take(int64_t member, uint64_t step) {
    const auto left = static_cast<uint32_t>(step);
    if (step == kFinished || left == 0) return false;
    const bool own = member < kMost && (left >> member & 1);
    const int64_t task = own ? member : __builtin_ctz(left);
    if (!step_.compare_exchange_strong(step, step & ~(uint64_t{1} << task))) return true;  // try again
    try {
      call_(context_, task);
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
    }
    done_.fetch_add(1);
    done_.notify_all();
    return true;
  }

  template <class Condition>
  static bool spin(const Condition& condition) {
    for (int i = 0; i < kSpins; i++) {
      if (condition()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    return false;
  }

  std::atomic<uint64_t> step_{0};  // the step's number, and a bit for each of its tasks that nobody has taken
  std::atomic<int64_t> done_{0};
  void (*call_)(const void* context, int64_t task) = nullptr;
  const void* context_ = nullptr;
  std::atomic<bool> failed_{false};
  std::exception_ptr failure_;
};

}  // namespace pixeltier
