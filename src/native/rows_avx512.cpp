// The loops of rows.inc for processors with avx512; see build.rs for the flags.
#define ROWS rows_avx512
#define VECTOR_BYTES 64
#include "rows.inc"
