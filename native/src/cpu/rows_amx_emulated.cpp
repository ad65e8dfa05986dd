// The AMX kernel with its tile operations in software: slow, for tests on processors without AMX.
#include <cstring>

#include "row_kernels.h"
#include "tile_kernel.h"

namespace pixeltier {
namespace {

struct EmulatedTiles {
  struct Tile {
    alignas(64) unsigned char line[16][64];
  };
  static thread_local Tile tiles[8];

  // Garbage, so that a tile used before it is zeroed or loaded shows.
  static void configure() { std::memset(tiles, 0xff, sizeof tiles); }
  static void release() { configure(); }

  template <int tile>
  static void zero() {
    std::memset(&tiles[tile], 0, sizeof(Tile));
  }
  template <int tile>
  static void load(const void* p, int64_t stride) {
    for (int i = 0; i < 16; i++)
      std::memcpy(tiles[tile].line[i], static_cast<const char*>(p) + i * stride, 64);
  }
  template <int tile>
  static void store(void* p, int64_t stride) {
    for (int i = 0; i < 16; i++) std::memcpy(static_cast<char*>(p) + i * stride, tiles[tile].line[i], 64);
  }
  template <int to, int a, int b>
  static void multiply() {
    for (int m = 0; m < 16; m++)
      for (int k = 0; k < 16; k++)
        for (int n = 0; n < 16; n++) {
          const float sum = number(to, m, n);
          const float product =
              half(a, m, 2 * k) * half(b, k, 2 * n) + half(a, m, 2 * k + 1) * half(b, k, 2 * n + 1);
          const float next = sum + product;
          std::memcpy(tiles[to].line[m] + 4 * n, &next, sizeof next);
        }
  }

 private:
  static float number(int tile, int line, int column) {
    float value;
    std::memcpy(&value, tiles[tile].line[line] + 4 * column, sizeof value);
    return value;
  }
  static float half(int tile, int line, int column) {
    uint16_t bits;
    std::memcpy(&bits, tiles[tile].line[line] + 2 * column, sizeof bits);
    const uint32_t word = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
};

thread_local EmulatedTiles::Tile EmulatedTiles::tiles[8];

}  // namespace

const RowKernel amx_emulated_bf16 = make_tile_kernel<EmulatedTiles>(Isa::amx_emulated);

}  // namespace pixeltier
