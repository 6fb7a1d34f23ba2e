// A stand-in for NVRTC: "compiles" kernels.cu to a list of the kernels in it. The driver's stand-in has the kernels.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <regex>
#include <string>

#include "standin.h"

struct Program {
    // The image is PTX, or begins as a cubin does.
    std::string source, image;
    bool is_cubin = false;
};

constexpr int ARCHITECTURES[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
enum Result { SUCCESS = 0, INVALID_PROGRAM = 4, INVALID_OPTION = 5 };

static int get(const std::string& text, char* out) {
    std::memcpy(out, text.c_str(), text.size() + 1);
    return SUCCESS;
}

extern "C" {

VISIBLE int nvrtcVersion(int* major, int* minor) {
    *major = 13, *minor = 0;
    return 0;
}

VISIBLE int nvrtcGetNumSupportedArchs(int* count) {
    *count = static_cast<int>(std::size(ARCHITECTURES));
    return 0;
}
VISIBLE int nvrtcGetSupportedArchs(int* list) {
    std::copy(std::begin(ARCHITECTURES), std::end(ARCHITECTURES), list);
    return 0;
}

VISIBLE int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*,
                               const char* const*) {
    *program = new Program{source, "", false};
    return 0;
}

VISIBLE int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
    static const std::regex kernel(R"(KERNEL NAMED\((\w+)\))");
    static const std::string real = "--gpu-architecture=sm_";
    for (int i = 0; i < count; ++i) {
        const std::string option = options[i];
        if (option.compare(0, real.size(), real) != 0) continue;
        const int architecture = std::atoi(option.c_str() + real.size());
        if (std::find(std::begin(ARCHITECTURES), std::end(ARCHITECTURES), architecture) == std::end(ARCHITECTURES))
            return INVALID_OPTION;
        program->is_cubin = true;
    }
    std::string& image = program->image = program->is_cubin ? "\177ELF\n" : "// of the stand-in\n.version 9.0\n.target sm_75\n";
    // The source has each kernel once for every dtype: what stands before `namespace of_…` names it.
    for (const auto& [space, suffix] : {std::pair{"namespace of_float", "_f32"}, std::pair{"namespace of_bf16", "_bf16"}}) {
        const size_t begin = program->source.find(space);
        if (begin == std::string::npos) continue;
        const std::string part = program->source.substr(begin, program->source.find("#undef ELEMENT", begin) - begin);
        for (std::sregex_iterator at(part.begin(), part.end(), kernel), end; at != end; ++at)
            image += ".visible .entry " + (*at)[1].str() + suffix + "(\n";
    }
    return 0;
}

VISIBLE int nvrtcGetPTXSize(Program* program, size_t* size) {
    *size = program->image.size() + 1;
    return program->is_cubin ? INVALID_PROGRAM : SUCCESS;
}
VISIBLE int nvrtcGetPTX(Program* program, char* ptx) { return get(program->image, ptx); }
VISIBLE int nvrtcGetCUBINSize(Program* program, size_t* size) {
    *size = program->is_cubin ? program->image.size() + 1 : 0;
    return 0;
}
VISIBLE int nvrtcGetCUBIN(Program* program, char* cubin) { return get(program->image, cubin); }
VISIBLE int nvrtcGetProgramLogSize(Program*, size_t* size) {
    *size = 1;
    return 0;
}
VISIBLE int nvrtcGetProgramLog(Program*, char* log) {
    *log = 0;
    return 0;
}
VISIBLE int nvrtcDestroyProgram(Program** program) {
    delete *program;
    *program = nullptr;
    return 0;
}
VISIBLE const char* nvrtcGetErrorString(int) { return "the stand-in cannot compile this"; }
}
