// The machine operations of native/src/cuda/simt.cuh and the CUDA built-ins that the kernels use, in
// software: every CUDA thread is a fiber, the blocks of a grid run one after another, and the lanes of a warp
// meet in each warp-wide operation. What each operation does is written from the PTX ISA, not from the
// kernels.
//
// It is meant to be stricter than a GPU. Asynchronous copies become visible as late as they may, or at once;
// warps and lanes run in ascending or descending order; shared memory starts as NaNs; addresses in shared
// memory are checked for bounds and alignment; a barrier that some threads never reach is an error.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after another

struct uint2 {
  uint32_t x, y;
};
struct float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace pixeltier::simt {

struct Index {
  unsigned x;
};

// How the freedom that the programming model leaves is used.
struct Freedom {
  bool late_copies = true;
  bool descending = false;
};
inline Freedom freedom;

struct Copy {
  char* to;
  const char* from;
  int bytes;
};

enum class State { ready, at_warp, at_block, done };

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state;
  Index index;
  std::vector<std::vector<Copy>> committed;  // groups still under way, oldest first
  std::vector<Copy> pending;                 // copies not committed yet
};

using Slots = void* (&)[32];

struct Warp {
  void* slots[32];
  int arrived;
  const char* operation;
};

constexpr size_t kStackBytes = 256 * 1024;

struct Machine {
  ucontext_t scheduler;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Thread* current = nullptr;
  Index block, grid;
  int at_block = 0;
  std::vector<char> memory;
  char* shared = nullptr;
  int shared_bytes = 0;
  std::function<void()> body;
  std::string failure;
};
inline Machine machine;

inline void fail(const std::string& what) {
  if (machine.failure.empty()) machine.failure = what;
}

inline void yield() { swapcontext(&machine.current->context, &machine.scheduler); }

inline void enter() {
  machine.body();
  machine.current->state = State::done;
  yield();
}

// All lanes of a warp bring `argument`; the last one to come runs `operate` for all of them.
template <typename Operation>
void meet(const char* name, void* argument, Operation operate) {
  Thread& thread = *machine.current;
  Warp& warp = machine.warps[thread.index.x / 32];
  if (warp.arrived == 0) warp.operation = name;
  if (std::strcmp(warp.operation, name) != 0)
    fail(std::string("lanes of a warp diverge: ") + warp.operation + " and " + name);
  warp.slots[thread.index.x % 32] = argument;
  if (++warp.arrived < 32) {
    thread.state = State::at_warp;
    yield();
    return;
  }
  operate(warp.slots);
  warp.arrived = 0;
  const unsigned first = thread.index.x / 32 * 32;
  for (unsigned lane = 0; lane < 32; lane++)
    if (machine.threads[first + lane].state == State::at_warp)
      machine.threads[first + lane].state = State::ready;
}

inline void meet_block() {
  Thread& thread = *machine.current;
  if (++machine.at_block < static_cast<int>(machine.threads.size())) {
    thread.state = State::at_block;
    yield();
    return;
  }
  machine.at_block = 0;
  for (Thread& other : machine.threads)
    if (other.state == State::at_block) other.state = State::ready;
}

inline void run_block() {
  const int count = static_cast<int>(machine.threads.size());
  for (int i = 0; i < count; i++) {
    Thread& thread = machine.threads[i];
    thread.state = State::ready;
    thread.index = {static_cast<unsigned>(i)};
    thread.committed.clear();
    thread.pending.clear();
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, enter, 0);
  }
  machine.at_block = 0;
  for (Warp& warp : machine.warps) warp.arrived = 0;
  for (int done = 0; done < count;) {
    bool progress = false;
    done = 0;
    for (int i = 0; i < count; i++) {
      Thread& thread = machine.threads[freedom.descending ? count - 1 - i : i];
      if (thread.state == State::ready) {
        machine.current = &thread;
        swapcontext(&machine.scheduler, &thread.context);
        progress = true;
      }
      done += thread.state == State::done;
      if (!machine.failure.empty()) throw std::runtime_error(machine.failure);
    }
    if (!progress) throw std::runtime_error("threads wait for others that never come");
  }
  for (const Thread& thread : machine.threads)
    if (!thread.pending.empty() || !thread.committed.empty())
      throw std::runtime_error("a thread ended with copies under way");
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, int shared_bytes, void*,
            Arguments... arguments) {
  if (threads % 32 != 0) throw std::runtime_error("blocks must be whole warps");
  // The largest request that sm_90 grants.
  if (shared_bytes > 227 * 1024) throw std::runtime_error("too much shared memory");
  while (machine.threads.size() < static_cast<size_t>(threads)) {
    machine.threads.emplace_back();
    machine.threads.back().stack.reset(new char[kStackBytes]);
  }
  machine.threads.resize(threads);
  machine.warps.resize(threads / 32);
  machine.memory.assign(shared_bytes + 128, static_cast<char>(0xff));  // NaN in every type
  machine.shared =
      machine.memory.data() + (128 - reinterpret_cast<uintptr_t>(machine.memory.data()) % 128) % 128;
  machine.shared_bytes = shared_bytes;
  machine.grid = {static_cast<unsigned>(blocks)};
  machine.failure.clear();
  machine.body = [&] { kernel(Parameters(arguments)...); };
  for (int64_t i = 0; i < blocks; i++) {
    machine.block = {static_cast<unsigned>(freedom.descending ? blocks - 1 - i : i)};
    run_block();
  }
}

inline int multiprocessors(int) { return 1; }

inline void fill(void* memory, int byte, int64_t bytes, void*) { std::memset(memory, byte, bytes); }

inline char* dynamic_shared() { return machine.shared; }

inline void check_shared(const void* at, const char* what) {
  const auto* const address = static_cast<const char*>(at);
  if (address < machine.shared || address + 16 > machine.shared + machine.shared_bytes)
    fail(std::string(what) + " outside of shared memory");
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0) fail(std::string(what) + " is not aligned");
}

inline void perform(const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    std::memset(copy.to, 0, 16);
    if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
  }
}

inline void copy_async(void* shared, const void* global, int bytes) {
  check_shared(shared, "an asynchronous copy's target");
  if (reinterpret_cast<uintptr_t>(global) % 16 != 0) fail("an asynchronous copy's source is not aligned");
  if (bytes < 0 || bytes > 16) fail("an asynchronous copy of more than 16 bytes");
  if (!machine.failure.empty()) return;
  const Copy copy{static_cast<char*>(shared), static_cast<const char*>(global), bytes};
  if (freedom.late_copies)
    machine.current->pending.push_back(copy);
  else
    perform({copy});
}

inline void commit_copies() {
  machine.current->committed.push_back(std::move(machine.current->pending));
  machine.current->pending.clear();
}

template <int kPending>
void wait_for_copies() {
  auto& committed = machine.current->committed;
  while (committed.size() > kPending) {
    perform(committed.front());
    committed.erase(committed.begin());
  }
}

// ldmatrix.x4: lane l names row l % 8 of matrix l / 8; lane l receives elements 2 * (l % 4) and the next one
// of row l / 4 of each matrix.
inline void load_matrices(uint32_t (&to)[4], const void* shared_row) {
  struct Argument {
    uint32_t* to;
    const void* row;
  } argument{to, shared_row};
  check_shared(shared_row, "a matrix row");
  meet("ldmatrix", &argument, [](Slots slots) {
    if (!machine.failure.empty()) return;
    for (int lane = 0; lane < 32; lane++)
      for (int matrix = 0; matrix < 4; matrix++)
        std::memcpy(static_cast<Argument*>(slots[lane])->to + matrix,
                    static_cast<const char*>(static_cast<Argument*>(slots[8 * matrix + lane / 4])->row) +
                        4 * (lane % 4),
                    4);
  });
}

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float float_of_f16(uint16_t bits) {
  _Float16 value;
  std::memcpy(&value, &bits, 2);
  return value;
}

struct Product {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

// d += a b for a of 16 x 2K and b of 2K x 8, where a register holds kWidth elements. The PTX ISA's fragments,
// with g = lane / 4 and t = lane % 4: a's register i holds row g + 8 * (i % 2), columns kWidth * t onwards of
// half i / 2; b's register i rows kWidth * t onwards of half i, column g; d's element i is row
// g + 8 * (i / 2), column 2 * t + i % 2.
template <int kWidth, typename Get>
void multiply(Slots slots, Get get) {
  constexpr int kHalf = 4 * kWidth;
  double a[16][2 * kHalf], b[2 * kHalf][8];
  for (int lane = 0; lane < 32; lane++) {
    const auto& product = *static_cast<Product*>(slots[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++)
      for (int e = 0; e < kWidth; e++)
        a[g + 8 * (i % 2)][kHalf * (i / 2) + kWidth * t + e] = get(product.a[i], e);
    for (int i = 0; i < 2; i++)
      for (int e = 0; e < kWidth; e++) b[kHalf * i + kWidth * t + e][g] = get(product.b[i], e);
  }
  for (int lane = 0; lane < 32; lane++) {
    const auto& product = *static_cast<Product*>(slots[lane]);
    for (int i = 0; i < 4; i++) {
      const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
      double sum = product.d[i];
      for (int k = 0; k < 2 * kHalf; k++) sum += a[row][k] * b[k][column];
      product.d[i] = static_cast<float>(sum);
    }
  }
}

inline void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product product{d, a, {b0, b1}};
  meet("mma bf16", &product, [](Slots slots) {
    multiply<2>(slots, [](uint32_t bits, int e) { return float_of_bits(bits >> 16 * e << 16); });
  });
}

inline void multiply_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product product{d, a, {b0, b1}};
  meet("mma f16", &product, [](Slots slots) {
    multiply<2>(slots,
                [](uint32_t bits, int e) { return float_of_f16(static_cast<uint16_t>(bits >> 16 * e)); });
  });
}

// The lower 13 bits of what should be TF32 are ignored.
inline void multiply_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product product{d, a, {b0, b1}};
  meet("mma tf32", &product, [](Slots slots) {
    multiply<1>(slots, [](uint32_t bits, int) { return float_of_bits(bits & ~0x1fffu); });
  });
}

inline uint32_t round_to_tf32(float value) {
  const uint32_t bits = bits_of_float(value);
  return (bits & 0x7f800000) == 0x7f800000 ? bits : (bits + 0x1000) & ~0x1fffu;  // to nearest, ties away
}

inline uint16_t bf16_of(float value) {
  const uint32_t bits = bits_of_float(value);
  if (value != value) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(bf16_of(high)) << 16 | bf16_of(low);
}

inline uint32_t pack_f16(float low, float high) {
  const _Float16 halves[2] = {static_cast<_Float16>(low), static_cast<_Float16>(high)};
  uint32_t bits;
  std::memcpy(&bits, halves, 4);
  return bits;
}

template <typename T>
T shuffle(const char* name, T value, const std::function<int(int)>& source) {
  struct Argument {
    T value, result;
  } argument{value, value};
  meet(name, &argument, [&](Slots slots) {
    T values[32];
    for (int lane = 0; lane < 32; lane++) values[lane] = static_cast<Argument*>(slots[lane])->value;
    for (int lane = 0; lane < 32; lane++) static_cast<Argument*>(slots[lane])->result = values[source(lane)];
  });
  return argument.result;
}

}  // namespace pixeltier::simt

#define threadIdx (::pixeltier::simt::machine.current->index)
#define blockIdx (::pixeltier::simt::machine.block)
#define gridDim (::pixeltier::simt::machine.grid)

inline void __syncthreads() { pixeltier::simt::meet_block(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int lanes) {
  return pixeltier::simt::shuffle<T>("shfl.bfly", value, [lanes](int lane) { return lane ^ lanes; });
}

template <typename T>
T __shfl_up_sync(unsigned, T value, int lanes) {
  return pixeltier::simt::shuffle<T>("shfl.up", value,
                                     [lanes](int lane) { return lane < lanes ? lane : lane - lanes; });
}

inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }
inline float __uint_as_float(uint32_t bits) { return pixeltier::simt::float_of_bits(bits); }
inline uint32_t __float_as_uint(float value) { return pixeltier::simt::bits_of_float(value); }

template <typename T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}

template <typename T>
T atomicMax(T* to, T value) {
  const T before = *to;
  *to = std::max(before, value);
  return before;
}
