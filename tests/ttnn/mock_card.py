"""A Tenstorrent card that is not there: what ttnn needs to plan programs without hardware.

In its mock mode ttnn checks and plans every call for a given chip (shapes, layouts, memory) and
computes nothing; all that is read back is zero. Call :func:`prepare` before the first
``import ttnn``; a process serves one architecture. Traces and events crash in this mode.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
from pathlib import Path

# Per architecture: the board and its product code, then what is fused off: Tensix rows (Wormhole)
# or columns (Blackhole), Ethernet cores, PCIe ports. Masks hold one bit per row, column or core.
_CARDS = {
    "wormhole_b0": ("n150", 0x18, 1 << 6, 0, 0),
    # a P150 uses 12 of its 14 Ethernet cores and one of its two PCIe ports
    "blackhole": ("p150", 0x40, 0, 1 << 5 | 1 << 8, 1 << 1),
}

# Mock mode runs no kernel, but programs hold compiled ones. The stand-in compiler reports the
# version that the precompiled firmware asks for, and gives every kernel the same binary.
_COMPILER = """\
#!/bin/sh
for argument in "$@"; do
    case "$argument" in
        --version | -v) echo "riscv-tt-elf-g++ (tenstorrent/sfpi:{version}) 15.1.0"; exit 0 ;;
    esac
    case "$option" in
        -o) target=$argument ;;
        -MF) rules=$argument ;;
    esac
    option=$argument
done
test -z "$rules" || echo "$target:" > "$rules"
case "$target" in
    "") ;;
    *.elf) cp "{kernel}" "$target" ;;
    *) : > "$target" ;;
esac
"""


def prepare(folder: str | os.PathLike[str], arch: str) -> dict[str, str]:
    """Let ttnn find a mock card; call it before ``import ttnn``.

    Parameters
    ----------
    folder : path
        An empty folder for links, caches and logs, one per process. ttnn passes its path to a
        shell without quotes, so it may hold no spaces.
    arch : {"wormhole_b0", "blackhole"}
        ``"wormhole_b0"`` is an N150 card, ``"blackhole"`` a P150.

    Returns
    -------
    variables : dict
        The environment variables that were set, for a child process.

    Raises
    ------
    ValueError
        If `arch` is unknown, or the folder's path holds white space.
    RuntimeError
        If ttnn is already imported; it would not see the variables.
    ModuleNotFoundError
        If ttnn is not installed.
    """
    if arch not in _CARDS:
        raise ValueError(f"arch={arch!r}; known are {', '.join(map(repr, _CARDS))}.")
    if "ttnn" in sys.modules:
        raise RuntimeError("ttnn is already imported; prepare the mock card in a new process.")
    folder = Path(folder).resolve()
    if len(str(folder).split()) != 1:
        raise ValueError(f"folder={str(folder)!r} holds white space; choose another path.")
    package = _find_package()
    runtime = folder / "root"
    toolchain = runtime / "runtime" / "sfpi"
    (toolchain / "compiler" / "bin").mkdir(parents=True, exist_ok=True)
    (toolchain / "include").mkdir(exist_ok=True)
    for name in ("tt_metal", "ttnn", "runtime/hw"):
        if not (runtime / name).exists():
            (runtime / name).symlink_to(package / name)

    kernel = folder / "kernel.elf"
    kernel.write_bytes(_empty_kernel())
    compiler = toolchain / "compiler" / "bin" / "riscv-tt-elf-g++"
    compiler.write_text(_COMPILER.format(version=_compiler_version(package), kernel=kernel))
    compiler.chmod(0o755)
    cluster = folder / "cluster.yaml"
    cluster.write_text(json.dumps(_describe_card(arch), indent=1))  # JSON is YAML as well

    variables = {
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(cluster),
        "TT_METAL_RUNTIME_ROOT": str(runtime),
        "TT_METAL_HOME": str(runtime),
        "TT_METAL_CACHE": f"{folder / 'cache'}/",  # without the slash it becomes a prefix
        "TT_METAL_LOGS_PATH": str(folder / "logs"),
        "TT_METAL_INSPECTOR_RPC": "0",  # opens a port, which parallel runs would fight for
        "TT_LOGGER_LEVEL": "FATAL",
        "LOGURU_LEVEL": "WARNING",
    }
    os.environ.update(variables)
    return variables


def _find_package() -> Path:
    """Return the folder of the installed ttnn without importing it."""
    spec = importlib.util.find_spec("ttnn")
    # a plain folder named ttnn on the path has a spec too, but no origin
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("ttnn is not installed; pip install ttnn.", name="ttnn")
    return Path(spec.origin).parent


def _compiler_version(package: Path) -> str:
    """Return the version of the kernel compiler that this ttnn was built for."""
    lines = (package / "tt_metal" / "sfpi-version").read_text().splitlines()
    entries = dict(line.split("=", 1) for line in lines if "=" in line)
    version, build = (entries[key].strip("'") for key in ("sfpi_version", "sfpi_build"))
    return f"{version}[{build}]"


def _describe_card(arch: str) -> dict[str, object]:
    """Return the cluster descriptor of one card in one host."""
    board, product, tensix, ethernet, pcie = _CARDS[arch]
    serial = product << 36 | 1  # must name the same product as the board's type
    return {
        "arch": {0: arch},
        "chips": {0: [0, 0, 0, 0]} if arch == "wormhole_b0" else {},
        "ethernet_connections": [],
        "chips_with_mmio": [{0: 0}],
        "harvesting": {
            0: {
                "noc_translation": True,
                "harvest_mask": tensix,
                "dram_harvesting_mask": 0,
                "eth_harvesting_mask": ethernet,
                "pcie_harvesting_mask": pcie,
            }
        },
        "boards": [[{"board_id": serial}, {"board_type": board}, {"chips": [0]}]],
    }


def _empty_kernel() -> bytes:
    """Return a 32-bit RISC-V executable whose only function returns zero.

    The loader wants one loadable segment, a symbol table and relocations; both may be empty but
    for the symbol table's first, unused entry.
    """
    address = 0x8000
    header_size, segment_size, section_size = 52, 32, 40
    code = struct.pack("<2I", 0x00000513, 0x00008067)  # li a0, 0; ret
    symbols = bytes(16)
    names = b"\0.text\0.rela.text\0.symtab\0.strtab\0.shstrtab\0"
    blobs = {".text": code, ".symtab": symbols, ".strtab": bytes(4), ".shstrtab": names}

    body = bytearray(header_size + segment_size + 12)  # the code starts at a multiple of 32
    offsets = {}
    for name, blob in blobs.items():
        offsets[name] = len(body)
        body += blob
    body += bytes(-len(body) % 4)
    # name: type, flags, address, size, link, info, alignment, entry size
    sections = {
        ".text": (1, 6, address, len(code), 0, 0, 4, 0),
        ".rela.text": (4, 0x40, 0, 0, 3, 1, 4, 12),
        ".symtab": (2, 0, 0, len(symbols), 4, 1, 4, 16),
        ".strtab": (3, 0, 0, len(blobs[".strtab"]), 0, 0, 1, 0),
        ".shstrtab": (3, 0, 0, len(names), 0, 0, 1, 0),
    }
    table = len(body)
    body += bytes(section_size)  # section 0 is unused
    for name, (kind, flags, at, size, *rest) in sections.items():
        label = names.index(b"\0" + name.encode() + b"\0") + 1
        where = offsets.get(name, offsets[".symtab"])
        body += struct.pack("<10I", label, kind, flags, at, where, size, *rest)
    # executable (2) for RISC-V (243), ELF version 1; the last section holds the names
    entry = (2, 243, 1, address, header_size, table, 0)
    sizes = (header_size, segment_size, 1, section_size, 1 + len(sections), len(sections))
    body[:header_size] = struct.pack("<16s2H5I6H", b"\x7fELF\1\1\1", *entry, *sizes)
    segment = (1, offsets[".text"], address, address, len(code), len(code), 5, 4)
    body[header_size : header_size + segment_size] = struct.pack("<8I", *segment)
    return bytes(body)
