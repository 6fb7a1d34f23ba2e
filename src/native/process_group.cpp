// Processes that add up tensors: libtorch's own process group over gloo, and the store through which they find each other.
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "shim.h"

using StorePointer = c10::intrusive_ptr<c10d::Store>;
using GroupPointer = c10::intrusive_ptr<c10d::Backend>;

// A store at `host`, served by this process or by another. With port 0 the system chooses one.
extern "C" char* lorhai_store(const char* host, int* port, bool is_server, int64_t timeout, void** out) {
    return guarded([&] {
        c10d::TCPStoreOptions options;
        options.port = static_cast<uint16_t>(*port);
        options.isServer = is_server;
        options.waitWorkers = false;
        options.timeout = std::chrono::milliseconds(timeout);
        auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
        *port = store->getPort();
        *out = new StorePointer(std::move(store));
    });
}

extern "C" void lorhai_store_free(void* store) {
    delete static_cast<StorePointer*>(store);
}

// Joins `size` processes that call this with the same store and prefix. `host`, if any, is the address of this machine that
// the others connect to.
extern "C" char* lorhai_group(const void* store, const char* prefix, const char* host, int rank, int size, int64_t timeout,
                              void** out) {
    return guarded([&] {
        using c10d::ProcessGroupGloo;
        auto options = host ? ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout))
                            : ProcessGroupGloo::Options::create_default(std::chrono::milliseconds(timeout));
        if (host) options->devices.push_back(ProcessGroupGloo::createDeviceForHostname(host));
        auto own = c10::make_intrusive<c10d::PrefixStore>(prefix, *static_cast<const StorePointer*>(store));
        *out = new GroupPointer(c10::make_intrusive<ProcessGroupGloo>(own, rank, size, options));
    });
}

// Replaces each tensor by the sum of those of all processes, which is the same in all of them to the last bit.
extern "C" char* lorhai_group_sum(void* group, const Tensor* const* tensors, int count) {
    return guarded([&] {
        auto& backend = *static_cast<GroupPointer*>(group);
        std::vector<c10::intrusive_ptr<c10d::Work>> works;
        for (int at = 0; at < count; at++) {
            std::vector<Tensor> one{*tensors[at]};
            works.push_back(backend->allreduce(one));
        }
        for (auto& work : works) work->wait();
    });
}

// Replaces the tensor by that of process `from`.
extern "C" char* lorhai_group_broadcast(void* group, const Tensor* tensor, int from) {
    return guarded([&] {
        std::vector<Tensor> one{*tensor};
        c10d::BroadcastOptions options;
        options.rootRank = from;
        (*static_cast<GroupPointer*>(group))->broadcast(one, options)->wait();
    });
}

extern "C" void lorhai_group_free(void* group) {
    delete static_cast<GroupPointer*>(group);
}
