// The loops of rows.inc for processors with avx2; see build.rs for the flags.
#define ROWS rows_avx2
#define VECTOR_BYTES 32
#include "rows.inc"
