// Threads of a block as coroutines: each has a stack, runs until it ends or reaches a barrier, and hands over to the
// next. Coroutines are started by makecontext and switched by _setjmp, which unlike swapcontext makes no system call: a
// norm of one row switches some thousand times.
#include "block.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "switches.h"

Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t STACK = 64 << 10;
// Stacks begin at different places of their pages. Else their tops would share a few lines of the processor's cache.
constexpr size_t STAGGER = 576, STAGGERED = 32;

struct Coroutine {
    enum State { AtBarrier, Ended } state = Ended;
    bool is_started = false;
    jmp_buf resume;
    ucontext_t start;
    void* stack = nullptr;
    size_t bytes = 0;
};

// The coroutines, which are kept from one block to the next.
struct Pool {
    std::vector<std::unique_ptr<Coroutine>> threads;
    const std::function<void()>* body = nullptr;
    // The order until the next barrier, and who runs.
    std::vector<unsigned> order;
    size_t at = 0;
    jmp_buf scheduler;
    std::mt19937 random{20260};
};

// Never destroyed: a kernel may still run while the program ends.
Pool& pool = *new Pool;

Coroutine& running() { return *pool.threads[pool.order[pool.at]]; }

void live();

// Goes on with a coroutine, for the first time or where it left off. Does not return.
void enter() {
    Coroutine& next = running();
    threadIdx = {pool.order[pool.at], 0, 0};
    if (next.is_started) _longjmp(next.resume, 1);
    next.is_started = true;
    getcontext(&next.start);
    next.start.uc_stack.ss_sp = next.stack;
    next.start.uc_stack.ss_size = next.bytes;
    next.start.uc_link = nullptr;
    makecontext(&next.start, live, 0);
    setcontext(&next.start);
}

// Leaves the coroutine that runs, until all others have reached a barrier or their end.
void hand_over(Coroutine::State state) {
    Coroutine& self = running();
    self.state = state;
    if (_setjmp(self.resume) != 0) return;
    if (++pool.at < pool.order.size()) enter();
    _longjmp(pool.scheduler, 1);
}

// A coroutine runs the body of one block after another.
void live() {
    for (;;) {
        (*pool.body)();
        hand_over(Coroutine::Ended);
    }
}

void prepare(unsigned threads) {
    while (pool.threads.size() < threads) {
        auto thread = std::make_unique<Coroutine>();
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED) std::abort();
        thread->stack = stack;
        thread->bytes = STACK - pool.threads.size() % STAGGERED * STAGGER;
        pool.threads.push_back(std::move(thread));
    }
}

// Runs every thread of the block to its next barrier or its end.
void run_to_barrier() {
    pool.at = 0;
    if (_setjmp(pool.scheduler) == 0) enter();
}

}  // namespace

Order thread_order() {
    static const Order order = [] {
        const char* text = switches::text("STANDIN_ORDER");
        const std::string name = text ? text : "";
        if (name == "forward") return Order::Forward;
        if (name == "reverse") return Order::Reverse;
        return name == "shuffle" ? Order::Shuffle : Order::Loops;
    }();
    return order;
}

void wait_for_block() { hand_over(Coroutine::AtBarrier); }

void run_block(const char* kernel, unsigned threads, const std::function<void()>& body) {
    pool.body = &body;
    prepare(threads);
    pool.order.resize(threads);
    std::iota(pool.order.begin(), pool.order.end(), 0);
    if (thread_order() == Order::Reverse) std::reverse(pool.order.begin(), pool.order.end());
    for (unsigned waiting = threads; waiting > 0;) {
        if (thread_order() == Order::Shuffle) std::shuffle(pool.order.begin(), pool.order.end(), pool.random);
        run_to_barrier();
        waiting = 0;
        for (unsigned i = 0; i < threads; ++i) waiting += pool.threads[i]->state == Coroutine::AtBarrier;
        if (waiting != 0 && waiting != threads) {
            std::fprintf(stderr, "stand-in: %s: %u of %u threads reach a barrier\n", kernel, waiting, threads);
            std::abort();
        }
    }
}
