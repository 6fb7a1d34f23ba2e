// Teams of OpenMP, for threads/load.rs.
#include <omp.h>

#include <atomic>

extern "C" {

// The processors that OpenMP counts on: those that this process could use as it started.
int lorhai_openmp_processors() {
    return omp_get_num_procs();
}

// Gives the calling thread a team of `count` threads, which wait until it ends.
void lorhai_hold_team(int count) {
    // Counted, so that no compiler leaves the region out.
    std::atomic<int> started{0};
#pragma omp parallel num_threads(count)
    started.fetch_add(1, std::memory_order_relaxed);
}
}
