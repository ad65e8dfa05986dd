// Scratch memory of a thread. Internal linkage: each instruction set keeps its own copy of this code.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace pixeltier {
namespace {

// Memory that is kept between calls: at most one buffer a thread, as large as the largest request.
template <class Item>
Item* thread_scratch(int64_t count) {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  thread_local std::unique_ptr<void, Free> buffer;
  thread_local int64_t capacity = 0;
  const int64_t bytes = (count * static_cast<int64_t>(sizeof(Item)) + 63) / 64 * 64;
  if (bytes > capacity) {
    buffer.reset(std::aligned_alloc(64, bytes));
    capacity = buffer ? bytes : 0;
    if (!buffer) throw std::bad_alloc();
  }
  return static_cast<Item*>(buffer.get());
}

}  // namespace
}  // namespace pixeltier
