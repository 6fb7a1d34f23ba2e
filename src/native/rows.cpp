// Chooses the loops of rows.h for the processor that the program runs on.
#include "rows.h"

extern const Rows rows_plain;
#ifdef __x86_64__
extern const Rows rows_avx2, rows_avx512;
#endif

static const Rows& chosen() {
#ifdef __x86_64__
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (wide) return rows_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return rows_avx2;
#endif
    return rows_plain;
}

const Rows& rows() {
    static const Rows& table = chosen();
    return table;
}
