"""Writes the golden files of this folder: `python generate.py [name …]`; without names, all of them.

README.md beside this file lists every file, key and version.
"""

import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

import adapter_case
import bf16_case
import embedding_adapters
import exact_svd
import full_case
import nf4_case
import older_adapters
import packed_case
import tables
import variant_case
import wrapped_case
from cases import BF16_CASES, CASES, FULL_CASES, VARIANTS

# Later ones read what earlier ones wrote: variants, packed and 4-bit cases and older adapters lie over adapter cases.
JOBS = (
    {case.name: (adapter_case.generate, case) for case in CASES}
    | {case.name: (bf16_case.generate, case) for case in BF16_CASES}
    | {case.name: (full_case.generate, case) for case in FULL_CASES}
    | {case.name: (variant_case.generate, case) for case in VARIANTS}
    | {name: (packed_case.generate, name) for name in packed_case.PACKED}
    | {name: (nf4_case.generate, name) for name in nf4_case.MODELS}
    | {nf4_case.SAVED[0]: (nf4_case.generate_saved, nf4_case.SAVED[0])}
    | {name: (nf4_case.generate_stored, name) for name in nf4_case.STORED}
    | {"nf4_matrices": (nf4_case.generate_matrices, "nf4_matrices")}
    | {name: (wrapped_case.generate, name) for name in wrapped_case.WRAPPED}
    | {"pefts": (older_adapters.generate, "pefts")}
    | {"embedding_adapters": (embedding_adapters.generate, "embedding_adapters")}
    | {name: (function, name) for name, function in tables.JOBS.items()}
)


def main(names: list[str]) -> None:
    """Generate the named goldens, or all."""
    torch.set_num_threads(1)
    exact_svd.install()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    unknown = set(names) - set(JOBS)
    if unknown:
        sys.exit(f"expected one of {', '.join(JOBS)}, found {', '.join(sorted(unknown))}")
    for name in names or JOBS:
        function, argument = JOBS[name]
        function(argument)


if __name__ == "__main__":
    main(sys.argv[1:])
