// One block of a kernel: its threads run on one thread of the host, and switch where they wait for one another. Blocks
// run one at a time, whichever threads of the host start them: what is here belongs to the block that runs.
#pragma once
#include <functional>

struct Index3 {
    unsigned x = 0, y = 0, z = 0;
};

extern Index3 threadIdx, blockIdx, blockDim, gridDim;

// The order in which the threads of a block run between two barriers; Loops: the kernel runs as a whole.
enum class Order { Loops, Forward, Reverse, Shuffle };

Order thread_order();

// Runs `body` once for each thread of the block. Ends the program if a barrier is not reached by all threads.
void run_block(const char* kernel, unsigned threads, const std::function<void()>& body);

// __syncthreads
void wait_for_block();
