// A stand-in for NVRTC: "compiles" kernels.cu to a list of the kernels in it. The driver's stand-in has the kernels.
#include <cstring>
#include <regex>
#include <string>

#include "standin.h"

struct Program {
    std::string source, ptx;
};

extern "C" {

VISIBLE int nvrtcVersion(int* major, int* minor) {
    *major = 13, *minor = 0;
    return 0;
}

VISIBLE int nvrtcCreateProgram(Program** program, const char* source, const char*, int, const char* const*,
                               const char* const*) {
    *program = new Program{source, ""};
    return 0;
}

VISIBLE int nvrtcCompileProgram(Program* program, int, const char* const*) {
    static const std::regex kernel(R"(KERNEL NAMED\((\w+)\))");
    std::string& ptx = program->ptx = "// of the stand-in\n.version 9.0\n.target sm_75\n";
    // The source has each kernel once for every dtype: what stands before `namespace of_…` names it.
    for (const auto& [space, suffix] : {std::pair{"namespace of_float", "_f32"}, std::pair{"namespace of_bf16", "_bf16"}}) {
        const size_t begin = program->source.find(space);
        if (begin == std::string::npos) continue;
        const std::string part = program->source.substr(begin, program->source.find("#undef ELEMENT", begin) - begin);
        for (std::sregex_iterator at(part.begin(), part.end(), kernel), end; at != end; ++at)
            ptx += ".visible .entry " + (*at)[1].str() + suffix + "(\n";
    }
    return 0;
}

VISIBLE int nvrtcGetPTXSize(Program* program, size_t* size) {
    *size = program->ptx.size() + 1;
    return 0;
}
VISIBLE int nvrtcGetPTX(Program* program, char* ptx) {
    std::memcpy(ptx, program->ptx.c_str(), program->ptx.size() + 1);
    return 0;
}
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
