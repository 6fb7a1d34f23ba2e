// What threads/load.rs changes while other programs want the processors too.
#include <omp.h>

#include <atomic>

std::atomic<bool> machine_is_busy{false};

extern "C" {

// The processors that OpenMP counts on: those that this process could use as it started.
int lorhai_openmp_processors() {
    return omp_get_num_procs();
}

// Splits small work among threads no longer, or again: see worth_a_thread in shim.h.
void lorhai_set_machine_is_busy(bool is_busy) {
    machine_is_busy.store(is_busy, std::memory_order_relaxed);
}

// Gives the calling thread a team of `count` threads, which wait until it ends.
void lorhai_hold_team(int count) {
    // Counted, so that no compiler leaves the region out.
    std::atomic<int> started{0};
#pragma omp parallel num_threads(count)
    started.fetch_add(1, std::memory_order_relaxed);
}
}
