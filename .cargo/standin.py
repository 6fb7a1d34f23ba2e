#!/usr/bin/env python3
"""Builds the stand-in for an NVIDIA GPU (tests/standin/README.md) into target/standin.

    libcuda.so.1       the driver, which runs src/native/kernels.cu on the host
    libnvrtc.so.13     the compiler of kernels, which only lists them
    libtorch_cuda.so   CUDA's operations, on memory of the host

A program with this folder in LD_LIBRARY_PATH has a GPU. `make standin` runs it. An object is compiled
again only where something that it is made of changed.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tests/standin"
KERNELS = ROOT / "src/native/kernels.cu"
TARGET = ROOT / "target/standin"
OBJECTS = TARGET / "objects"
LIBTORCH = Path(os.environ.get("LIBTORCH", ROOT / ".libtorch"))
COMPILER = os.environ.get("CXX", "c++").split()
FLAGS = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wno-psabi"]
DRIVER = ["report", "memory", "block", "threads", "loops", "driver"]
TORCH = ["operations", "tensors", "flash", "device", "allocator"]


def main():
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("the stand-in for a GPU is built on Linux on x86_64 only: skipped", file=sys.stderr)
        return
    if not (LIBTORCH / "runpath").is_file():
        sys.exit("error: libtorch is missing\n  hint: run `make setup` once")
    if not shutil.which(COMPILER[0]):
        sys.exit(f"error: no C++ compiler found ({COMPILER[0]})\n  hint: install one, as in: apt install g++")
    OBJECTS.mkdir(parents=True, exist_ok=True)
    write_kernel_names()
    # A fortified longjmp refuses to switch between stacks.
    driver = [*FLAGS, "-O2", "-U_FORTIFY_SOURCE", "-fno-stack-protector", f"-I{KERNELS.parent}", f"-I{OBJECTS}"]
    include = LIBTORCH / "include"
    torch = [*FLAGS, "-O1", "-w", f"-isystem{include}", f"-isystem{include / 'torch/csrc/api/include'}"]
    libraries = Path((LIBTORCH / "runpath").read_text().strip())
    # The longest first.
    jobs = [("torch", name, torch) for name in TORCH] + [("driver", name, driver) for name in [*DRIVER, "nvrtc"]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = dict(pool.map(lambda job: (job[:2], compile_object(*job)), jobs))
    of_driver = [objects["driver", name] for name in DRIVER]
    of_torch = [objects["torch", name] for name in TORCH]
    link("libcuda.so.1", of_driver, ["-pthread"])
    link("libnvrtc.so.13", [objects["driver", "nvrtc"]], [])
    needed = [TARGET / "libcuda.so.1", libraries / "libtorch_cpu.so", libraries / "libc10.so"]
    link("libtorch_cuda.so", of_torch, [*needed, "-Wl,--allow-shlib-undefined"])


def write_kernel_names():
    names = re.findall(r"^KERNEL NAMED\((\w+)\)", KERNELS.read_text(), re.MULTILINE)
    if not names:
        sys.exit(f"error: no kernels found in {KERNELS}")
    text = "".join(f"KERNEL_NAME({name})\n" for name in names)
    replace(OBJECTS / "kernel_names.inc", text.encode())


def compile_object(folder, name, flags):
    source, target = SOURCE / folder / f"{name}.cpp", OBJECTS / f"{folder}-{name}.o"
    read = [source, *sorted((SOURCE / folder).glob("*.h"))]
    if folder == "torch":
        read += [SOURCE / "driver/standin.h", LIBTORCH / "build-version"]
    if name in ("threads", "loops"):
        read += [KERNELS, OBJECTS / "kernel_names.inc"]
    return made_of(read, target, [*COMPILER, *flags, "-c", str(source)])


def link(name, objects, more):
    command = [*COMPILER, "-shared", f"-Wl,-soname,{name}", "-Wl,-z,defs" if name != "libtorch_cuda.so" else "-Wl,-z,now"]
    made_of(objects, TARGET / name, [*command, *map(str, objects), *map(str, more)])


def made_of(read, target, command):
    """Runs the command, which writes `target`, unless it ran on these files before."""
    digest = hashlib.sha256("\n".join(map(str, command)).encode())
    for file in read:
        digest.update(file.read_bytes())
    stamp = OBJECTS / f"{target.name}.stamp"
    if target.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return target
    # Renamed, because a running program may have the old one mapped.
    part = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        subprocess.run([*command, "-o", str(part)], check=True)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    replace(stamp, digest.hexdigest().encode())
    return target


def replace(path, content):
    if path.exists() and path.read_bytes() == content:
        return
    part = path.with_name(f".{os.getpid()}-{path.name}")
    part.write_bytes(content)
    part.replace(path)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.cmd[0]} failed on the stand-in (see above)")
