// bf16 rows on AVX-512 with its bf16 instructions: 14 x 2 accumulators of 16 lanes, two inputs an
// instruction.
#include "avx512_bf16_vector.h"
#include "row_kernels.h"
#include "winograd_kernel.h"

namespace pixeltier {

const RowKernel avx512_native_bf16 = make_row_kernel<NativeBFloat16>(Isa::avx512_bf16, Element::bf16);

}  // namespace pixeltier
