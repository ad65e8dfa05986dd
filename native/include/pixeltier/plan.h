// Active lists and row tables: which rows every tap of a convolution reads. Torch-free.
//
// Cells are numbered n * height * width + y * width + x. Active lists are strictly ascending.
#pragma once

#include <cstdint>

namespace pixeltier {

struct Grid {
  int64_t images, height, width;
  int64_t cells() const { return images * height * width; }
};

// Number of active cells of one image of `cells` importances: value >= threshold, and where keep_best is set
// also the first maximum. NaN is never active. `active` may be null (count only); cell numbers start at
// `first`.
int64_t plan_image(const float* importance, int64_t cells, float threshold, bool keep_best, int32_t first,
                   int32_t* active);

// Position of the first entry that is out of [0, cells) or not above its predecessor; -1 where all are well.
int64_t first_invalid(const int32_t* active, int64_t count, int64_t cells);

// The input rows of each output cell of active[begin, end): table[i * kernel^2 + t]. Rows are input cells in
// place; outside the image: input.cells(). `stride` divides the input grid, padding is kernel / 2.
void dense_table(const int32_t* active, int64_t begin, int64_t end, Grid input, int64_t kernel,
                 int64_t stride, int32_t* table);

// As above at stride 1, with rows as positions in the active list itself; outside or inactive: count.
void packed_table(const int32_t* active, int64_t count, int64_t begin, int64_t end, Grid grid, int64_t kernel,
                  int32_t* table);

// The tiles of size x size cells (2 or 4), aligned to multiples of it, that hold any active cell, in raster
// order. position[c] is the place of cell c in the active list, -1 where it is not active.
//
// outputs [tiles, size^2]: the places of the tile's cells in raster order, -1 where inactive or outside.
// table [tiles, (size + 2)^2]: the rows of the cells in and around them; `packed`: places, cells not active
// read `count`; otherwise cells of the grid in place, outside of it grid.cells(). Both may be null: count
// only.
int64_t tile_table(const int32_t* position, int64_t count, Grid grid, bool packed, int64_t size,
                   int32_t* table, int32_t* outputs);

// The same one pixel shuffle of 2 further, where each parent of a packed 3x3 table has its children for a
// tile: table [count, 16]. Returns false where a parent entry lies outside [0, count].
bool child_tile_table(const int32_t* parent, int64_t count, int64_t begin, int64_t end, int32_t* table);

// The table of the grid twice as fine, whose rows are 4 * parent + 2 * dy + dx, for the children of parents
// [begin, end). `parent_kernel` must reach far enough: parent_kernel / 2 >= (kernel / 2 + 1) / 2.
// Returns false where a parent entry lies outside [0, count].
bool child_table(const int32_t* parent, int64_t count, int64_t begin, int64_t end, int64_t parent_kernel,
                 int64_t kernel, int32_t* table);

}  // namespace pixeltier
