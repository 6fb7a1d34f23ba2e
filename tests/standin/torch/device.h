// The current device of each thread, as CUDA's runtime keeps it.
#pragma once

int current_device();
