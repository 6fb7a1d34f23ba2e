#!/usr/bin/env python3
"""Puts libtorch where cargo finds it: the folder `.libtorch` of this repository.

libtorch comes from the `torch` wheel on PyPI. Without an NVIDIA driver three wheels are fetched,
and only the libraries that the program links are kept. With a driver, a Python that has this
torch is used, or else the full CUDA set is fetched. Fetched files are in a cache folder that all
clones share; `.libtorch` only links to it:

    include        the C++ headers
    lib/           the libraries to link: without libtorch_cuda.so beside them the program
                   starts on any machine, and loads CUDA itself where a driver is
    build-version  what torch-sys compares with the version it was made for
    runpath        the real library folder, which build.rs writes into the program
    ready          version and kind, written last; without it the folder is made again

`make setup` runs it. It does nothing if libtorch is complete. Variables:

    LORHAI_CACHE     cache folder (default: $XDG_CACHE_HOME/lorhai or ~/.cache/lorhai)
    LORHAI_TORCH     a Python program, or a site-packages folder, that has torch 2.11.0
    LORHAI_LIBTORCH  "cpu" or "cuda", instead of looking for a driver
"""

import contextlib
import errno
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "2.11.0"
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".libtorch"
LINKED = ["libtorch_cpu.so", "libc10.so"]
CPU_WHEELS = ["nvidia-cuda-cupti==13.0.*", "nvidia-cuda-runtime==13.0.*", f"torch=={VERSION}"]
# The files of those wheels that the program needs, a quarter of them.
KEPT = re.compile(
    r"torch/(version\.py|include/.*|lib/(libtorch_cpu|libc10|libgomp)\.so[.\d]*)"
    r"|nvidia/cu13/lib/(libcudart|libcupti)\.so[.\d]*"
    r"|(torch|nvidia_cuda_\w+)-[^/]*/(.*/)?(LICENSE|License|NOTICE|METADATA)[^/]*"
)
# Disk space that a fetch needs, in bytes.
SPACE = {"cpu": 2 * 10**9, "cuda": 12 * 10**9}
GLIBC = (2, 28)


class Problem(Exception):
    """Why the set-up fails, and how to fix it."""

    def __init__(self, what, fix):
        super().__init__(what)
        self.fix = fix


def main():
    other = os.environ.get("LIBTORCH")
    if other and Path(other).resolve() != TARGET:
        say(f"note: LIBTORCH is set to {other}, and cargo uses that: unset it to use {TARGET}")
    kind = wanted_kind()
    if is_ready(kind):
        return
    check_machine()
    packages = existing_torch(kind) or cached(kind)
    check_loads(packages)
    link(packages, "cuda" if has_cuda(packages) else "cpu")
    say(f"libtorch {VERSION}: {packages}")


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- what this machine is -------------------------------------------------------------


def wanted_kind():
    """Returns "cuda" if there is an NVIDIA driver, else "cpu"."""
    forced = os.environ.get("LORHAI_LIBTORCH", "")
    if forced not in ("", "cpu", "cuda"):
        raise Problem(f'LORHAI_LIBTORCH: expected "cpu" or "cuda", found "{forced}"', "unset it")
    if forced:
        return forced
    # The second is where WSL2 keeps the driver's library.
    if any(Path(path).exists() for path in ("/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libcuda.so.1")):
        return "cuda"
    tool = shutil.which("nvidia-smi")
    has_gpu = tool and subprocess.run([tool, "-L"], capture_output=True, check=False).returncode == 0
    return "cuda" if has_gpu else "cpu"


def check_machine():
    system, machine = platform.system(), platform.machine()
    if (system, machine) not in (("Linux", "x86_64"), ("Linux", "aarch64")):
        raise Problem(
            f"expected Linux on x86_64 or aarch64, found {system} on {machine}",
            "use a Linux machine or container",
        )
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        raise Problem(
            f"libtorch {VERSION} needs glibc {GLIBC[0]}.{GLIBC[1]} or newer, found {name or 'another C library'} {version}",
            "use a newer distribution, not Alpine",
        )
    if not shutil.which(os.environ.get("CXX", "c++").split()[0]):
        raise Problem("no C++ compiler found (c++)", "install one, as in: apt install g++")
    if not shutil.which("cargo"):
        raise Problem("cargo is not found", "install Rust from https://rustup.rs, then open a new shell")


def cache_folder():
    if os.environ.get("LORHAI_CACHE"):
        return Path(os.environ["LORHAI_CACHE"]).expanduser().absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]).absolute() / "lorhai"
    return Path.home() / ".cache" / "lorhai"


# ---- a torch that is there already ----------------------------------------------------


def existing_torch(kind):
    """Finds the site-packages folder of an installed torch that can be used, or None."""
    named = os.environ.get("LORHAI_TORCH")
    for source in [named] if named else {sys.executable, shutil.which("python3")} - {None, ""}:
        packages = site_packages(source)
        if packages and serves(packages, kind):
            return packages
    if named:
        raise Problem(
            f"LORHAI_TORCH={named} has no torch {VERSION} that serves" + (" with CUDA" if kind == "cuda" else ""),
            "unset it to fetch libtorch, or name a Python that has it",
        )
    return None


def site_packages(source):
    """Asks a Python program for the folder that holds `torch`, without importing torch."""
    if Path(source).is_dir():
        return Path(source).absolute()
    ask = "import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s else '')"
    try:
        done = subprocess.run([source, "-c", ask], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    origin = done.stdout.strip()
    return Path(origin).parent.parent if done.returncode == 0 and origin else None


def serves(packages, kind):
    torch = packages / "torch"
    try:
        about = (torch / "version.py").read_text()
    except OSError:
        return False
    right = re.search(rf"__version__\s*=\s*'{re.escape(VERSION)}(\+\w+)?'", about)
    files = [torch / "lib" / name for name in LINKED] + [torch / "include" / "ATen" / "ATen.h"]
    if not right or not all(file.is_file() for file in files):
        return False
    return has_cuda(packages) if kind == "cuda" else loads(packages)


def has_cuda(packages):
    return (packages / "torch" / "lib" / "libtorch_cuda.so").is_file()


def loads(packages):
    return load_error(packages) is None


def load_error(packages):
    """Loads libtorch_cpu.so in a separate process and returns the error, or None."""
    library = packages / "torch" / "lib" / "libtorch_cpu.so"
    ask = f"import ctypes; ctypes.CDLL({str(library)!r})"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


def check_loads(packages):
    error = load_error(packages)
    if error:
        raise Problem(
            f"libtorch cannot be loaded from {packages}: {error}",
            "remove that folder and run `make setup` again",
        )


# ---- the cache that all clones share --------------------------------------------------


def cached(kind):
    """Returns the cached set of this kind, fetched if needed."""
    cache = cache_folder()
    home = cache / f"libtorch-{VERSION}-{kind}"
    if not (home / "complete").is_file():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with locked(cache / f".{home.name}.lock"):
                if not (home / "complete").is_file():
                    fetch(kind, cache, home)
        except OSError as error:
            raise disk_problem(error, cache) from error
    return home


def disk_problem(error, cache):
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space(cache)
    return Problem(f"cannot write to {cache}: {error}", "set LORHAI_CACHE to a folder that can be written")


def no_space(cache):
    return Problem(f"no space left in {cache}", "free some, or set LORHAI_CACHE to a folder on a larger disk")


@contextlib.contextmanager
def locked(path):
    """Holds the lock file; the system releases the lock however this program ends."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is fetching libtorch: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch(kind, cache, home):
    """Fetches into a folder beside `home`, and renames it when it is complete."""
    for left in cache.glob(f".{home.name}.part-*"):
        shutil.rmtree(left, ignore_errors=True)  # of a fetch that was killed
    free = shutil.disk_usage(cache).free
    if free < SPACE[kind]:
        raise Problem(
            f"fetching libtorch needs {SPACE[kind] / 1e9:.0f} GB in {cache}, found {free / 1e9:.1f} GB free",
            "free some, or set LORHAI_CACHE to a folder on a larger disk",
        )
    check_pip()
    part = Path(tempfile.mkdtemp(prefix=f".{home.name}.part-", dir=cache))
    try:
        say(f"fetching libtorch {VERSION} ({kind}) into {cache}, once for all clones")
        fetch_set = fetch_cuda if kind == "cuda" else fetch_cpu
        fetch_set(part)
        os.sync()
        (part / "complete").write_text(f"{VERSION} {kind}\n")
        part.chmod(0o755)
        if home.exists():
            shutil.rmtree(home)
        part.rename(home)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def fetch_cpu(part):
    wheels = part / "wheels"
    # The small ones first: a network that fails should do so early.
    for wheel in CPU_WHEELS:
        pip(part, ["download", "--no-deps", "--dest", str(wheels), wheel])
    say("unpacking")
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(part, [name for name in archive.namelist() if KEPT.fullmatch(name)])
        wheel.unlink()
    wheels.rmdir()


def fetch_cuda(part):
    pip(part, ["install", "--target", str(part), "--no-compile", f"torch=={VERSION}"])


# ---- pip ------------------------------------------------------------------------------


def check_pip():
    done = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if done.returncode != 0:
        raise Problem(
            f"{sys.executable} has no pip",
            "install it, as in: apt install python3-pip; or: python3 -m ensurepip",
        )


def pip(part, words):
    """Runs pip for a fixed Python version, so that the version of this one does not matter."""
    tags = [f"manylinux_2_{minor}_{platform.machine()}" for minor in range(GLIBC[1], 16, -1)]
    tags.append(f"manylinux2014_{platform.machine()}")
    command = [sys.executable, "-m", "pip", words[0], "--no-cache-dir", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312", "--abi", "none", "--abi", "abi3"]
    command += [word for tag in tags for word in ("--platform", tag)] + words[1:]
    scratch = part / "scratch"  # on the disk whose space was checked, where /tmp may be small
    scratch.mkdir()
    said = []
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment) as run:
        try:
            for line in run.stderr:
                said.append(line)
                sys.stderr.write(line)
        except BaseException:
            run.terminate()
            raise
    shutil.rmtree(scratch, ignore_errors=True)
    if run.returncode != 0:
        raise pip_problem("".join(said), words[-1], part.parent)


def pip_problem(said, package, cache):
    if "No space left" in said or "Disk quota" in said:
        return no_space(cache)
    if re.search(r"resolution|onnection|imed out|unreachable|Max retries|SSL|ProxyError", said):
        return Problem(
            f"pip could not reach the package registry to fetch {package}",
            "check the network and the proxy variables, then run `make setup` again; or name a Python "
            f"that has torch {VERSION}: LORHAI_TORCH=/path/to/python",
        )
    if "No matching distribution" in said:
        return Problem(
            f"pip finds no {package} for this machine",
            "check PIP_INDEX_URL, PIP_NO_INDEX and the pip configuration (the wheels are on pypi.org), "
            f"update pip, or name a Python that has torch {VERSION}: LORHAI_TORCH=/path/to/python",
        )
    return Problem(f"pip could not fetch {package} (see above)", "then run `make setup` again")


# ---- the folder that cargo reads ------------------------------------------------------


def is_ready(kind):
    """Whether `.libtorch` is complete, its links are valid, and it fits this machine."""
    try:
        version, linked = (TARGET / "ready").read_text().split()
        runpath = Path((TARGET / "runpath").read_text().strip())
    except (OSError, ValueError):
        return False
    whole = all((TARGET / "lib" / name).exists() for name in LINKED) and (TARGET / "include" / "ATen").exists()
    named = os.environ.get("LORHAI_TORCH")
    chosen = not named or site_packages(named) == runpath.parent.parent
    return version == VERSION and kind in (linked, "cpu") and whole and chosen


def link(packages, kind):
    """Makes `.libtorch` under a temporary name, then renames it."""
    torch = packages / "torch"
    part = Path(tempfile.mkdtemp(prefix=".libtorch.part-", dir=ROOT))
    try:
        (part / "lib").mkdir()
        for name in LINKED:
            (part / "lib" / name).symlink_to(torch / "lib" / name)
        # torch-sys also asks for libtorch.so, which would pull in libtorch_cuda.so: a line of
        # linker script under that name stands for libtorch_cpu.so instead.
        (part / "lib" / "libtorch.so").write_text("INPUT(-ltorch_cpu)\n")
        (part / "include").symlink_to(torch / "include")
        (part / "build-version").write_text(f"{VERSION}\n")
        (part / "runpath").write_text(f"{torch / 'lib'}\n")
        (part / "ready").write_text(f"{VERSION} {kind}\n")
        part.chmod(0o755)
        if TARGET.is_symlink():
            TARGET.unlink()
        elif TARGET.exists():
            shutil.rmtree(TARGET)
        part.rename(TARGET)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def stop(number, _frame):
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        main()
    except Problem as problem:
        say(f"error: {problem}\n  hint: {problem.fix}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; no partial files are left")
        sys.exit(130)
