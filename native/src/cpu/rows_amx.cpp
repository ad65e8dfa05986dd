// bf16 rows on Intel's AMX tiles.
//
// State of testing: no machine at hand has AMX. The kernel's logic is tested through rows_amx_emulated.cpp,
// which differs in the tile operations only; the instructions below have been compiled, not run.
#include "row_kernels.h"
#include "tile_kernel.h"

namespace pixeltier {
namespace {

// Not the compiler's intrinsics: they take literal tile numbers only, these take template arguments.
struct AmxTiles {
  static void configure() {
    struct __attribute__((packed)) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; i++) {
      config.bytes_per_row[i] = 64;
      config.rows[i] = 16;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { __asm__ volatile("tilerelease" ::: "memory"); }

  template <int tile>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(tile));
  }
  template <int tile>
  static void load(const void* p, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  static void store(void* p, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(tile) : "memory");
  }
  template <int to, int a, int b>
  static void multiply() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(to), "i"(a), "i"(b));
  }
};

}  // namespace

const RowKernel amx_bf16 = make_tile_kernel<AmxTiles>(Isa::amx);

}  // namespace pixeltier
