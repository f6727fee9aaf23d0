"""A network's weights in memory that another process maps: what an optimizer writes here, the other computes with.

Invariant: after `share`, every parameter and every persistent buffer lies in the file, and `holds` says so for as long as
nobody exchanged one. Weights on a CPU only.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

ALIGNMENT = 64
"""Bytes at whose multiples a tensor begins, so that vector instructions find it aligned."""
MEMORY = Path("/dev/shm")  # memory that looks like a folder, on Linux
"""Where the file lies if there is such a place."""


@dataclass(frozen=True)
class Placed:
    """Where one tensor lies in the file."""

    name: str
    """As `nn.Module.state_dict` calls it; a tied weight has one place, under its first name."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Bytes from the file's beginning."""


class SharedWeights:
    """The file and what lies in it."""

    def __init__(self, path: Path, places: list[Placed], memory: mmap.mmap) -> None:
        self.path, self.places = path, places
        self._memory = memory
        self._addresses: dict[str, int] = {}

    @classmethod
    def share(cls, network: nn.Module) -> SharedWeights:
        """Move the weights into a new file; the network's own tensors then are views of it.

        Raises:
            ValueError: a weight is not on a CPU.
            OSError: there is no room for the file.
        """
        places, offset = [], 0
        for name, tensor in _tensors(network):
            if tensor.device.type != "cpu":
                raise ValueError(f"{name} is on {tensor.device}; weights are shared between processes on a CPU only")
            places.append(Placed(name, tensor.dtype, tuple(tensor.shape), offset))
            offset += -(-tensor.numel() * tensor.element_size() // ALIGNMENT) * ALIGNMENT
        path, memory = _mapped(max(offset, 1))
        shared = cls(path, places, memory)
        try:
            shared._take(network, copy=True)
        except BaseException:
            shared.forget_name()
            raise
        return shared

    @classmethod
    def attach(cls, network: nn.Module, path: Path, places: list[Placed]) -> SharedWeights:
        """Let a network of the same shape compute with the weights that another process shares.

        Raises:
            ValueError: the network has other weights than the file.
        """
        own = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in _tensors(network)}
        if own != {place.name: (place.dtype, place.shape) for place in places}:
            raise ValueError(f"{path}: holds the weights of another network")
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        shared = cls(path, places, memory)
        shared._take(network, copy=False)
        return shared

    def holds(self, network: nn.Module) -> bool:
        """Whether the network still computes with what lies here: loading a checkpoint by assignment exchanges tensors."""
        return {name: tensor.data_ptr() for name, tensor in _tensors(network)} == self._addresses

    def forget_name(self) -> None:
        """Take the file's name away once everybody has mapped it, so that a killed program leaves nothing behind."""
        self.path.unlink(missing_ok=True)

    def _take(self, network: nn.Module, *, copy: bool) -> None:
        own = dict(_tensors(network))
        for place in self.places:
            tensor = own[place.name]
            if tensor.numel() == 0:
                continue
            view = torch.frombuffer(self._memory, dtype=place.dtype, count=tensor.numel(), offset=place.offset)
            view = view.view(place.shape)
            if copy:
                view.copy_(tensor.detach())
            tensor.data = view
        self._addresses = {name: tensor.data_ptr() for name, tensor in _tensors(network)}


def _tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, and buffers that are part of a checkpoint; what is tied comes once."""
    kept = set(network.state_dict(keep_vars=True))
    yield from network.named_parameters()
    yield from ((name, buffer) for name, buffer in network.named_buffers() if name in kept)


def _mapped(size: int) -> tuple[Path, mmap.mmap]:
    """A new file of this many bytes, and its memory: in `MEMORY` if there is room, else among the temporary files."""
    for folder in (MEMORY, Path(tempfile.gettempdir())):
        try:
            number, name = tempfile.mkstemp(prefix="lensgraph-", suffix=".weights", dir=folder)
        except OSError as error:
            problem = error
            continue
        try:
            os.ftruncate(number, size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(number, 0, size)  # or writing beyond what there is would kill the program
            return Path(name), mmap.mmap(number, size)
        except OSError as error:
            Path(name).unlink()
            problem = error
        finally:
            os.close(number)
    raise OSError(
        problem.errno,
        f"no room to share {size / 1e6:.0f} MB of weights between processes; use sampler=thread",
        str(folder),
    )
