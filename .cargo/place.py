#!/usr/bin/env python3
"""Installs the program with its libtorch into a folder that does not depend on this one.

    place.py FOLDER            for `make install`: FOLDER is the PREFIX
    place.py --archive FOLDER  for `make dist`: a new folder and an archive of it, below FOLDER

Below the folder:

    bin/lorhai
    lib/lorhai/torch/lib/      libtorch as in its wheel
    lib/lorhai/nvidia/         the NVIDIA libraries that it needs, as in theirs
    share/                     completions for bash, zsh and fish

The libraries find one another, and the program finds them, by relative paths (see build.rs).
The C library and libstdc++ are the system's.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/lorhai"
COMPLETIONS = {
    "bash": "share/bash-completion/completions/lorhai",
    "zsh": "share/zsh/site-functions/_lorhai",
    "fish": "share/fish/vendor_completions.d/lorhai.fish",
}


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 2 and arguments[0] == "--archive":
        folder = archive(Path(arguments[1]).expanduser())
    elif len(arguments) == 1:
        folder = Path(arguments[0]).expanduser()
        install(folder)
        print(f"{folder / 'bin/lorhai'} is installed")
        if str(folder / "bin") not in os.environ.get("PATH", "").split(os.pathsep):
            print(f"hint: add {folder / 'bin'} to PATH")
    else:
        sys.exit(__doc__)
    check_installation(folder)


def archive(below):
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
    machine, system = os.uname().machine, os.uname().sysname.lower()
    folder = below / f"lorhai-{version}-{machine}-{system}"
    if folder.exists():
        shutil.rmtree(folder)
    install(folder)
    for name in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "docs", "scripts"]:
        copy(ROOT / name, folder / name)
    packed = folder.with_name(folder.name + ".tar.gz")
    with tarfile.open(packed, "w:gz", compresslevel=6) as tar:
        tar.add(folder, folder.name)
    print(f"{folder}: {size(sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()))}")
    print(f"{packed}: {size(packed.stat().st_size)}")
    return folder


def install(folder):
    """Copies the libraries first, so that the program works as soon as it exists."""
    libtorch = Path(os.environ.get("LIBTORCH", ROOT / ".libtorch"))
    libraries = Path((libtorch / "runpath").read_text().strip())
    wheels = libraries.parent.parent
    installed = folder / "lib/lorhai"
    if installed.exists():
        shutil.rmtree(installed)
    for library in sorted(libraries.glob("*.so*")):
        if "python" not in library.name:
            copy(library, installed / "torch/lib" / library.name)
    for library in sorted((wheels / "nvidia").glob("**/*.so*")):
        copy(library, installed / library.relative_to(wheels))
    for notice in licences(wheels):
        copy(notice, installed / "licences" / notice.relative_to(wheels))
    program = folder / "bin/lorhai"
    program.parent.mkdir(parents=True, exist_ok=True)
    # Renamed, because a running program cannot be overwritten.
    part = program.with_name(".part-lorhai")
    shutil.copy2(PROGRAM, part)
    strip(part)
    part.rename(program)
    for shell, path in COMPLETIONS.items():
        text = subprocess.run([program, "completions", shell], check=True, capture_output=True).stdout
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)


def licences(wheels):
    """The licence files of the copied libraries."""
    infos = [*wheels.glob("torch-*"), *wheels.glob("nvidia_*-*")]
    files = [file for info in infos for file in info.rglob("*") if file.is_file()]
    return [file for file in files if re.match("LICENSE|License|NOTICE", file.name)]


def strip(program):
    """Removes debugging information, which needs the source."""
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-debug", program], check=True)


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def size(count):
    return f"{count / 1e6:.0f} MB"


def check_installation(folder):
    """Fails unless all libraries are loaded from the folder and the program starts."""
    program = folder / "bin/lorhai"
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    for name, path in re.findall(r"(libtorch\S*|libc10\S*|libcu\S*) => (.*?)(?: \(|$)", libraries, re.M):
        if not Path(path).resolve().is_relative_to(folder.resolve()):
            sys.exit(f"error: {name} is loaded from {path}, not from {folder}")
    subprocess.run([program, "--version"], check=True)


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
