"""A network's weights in memory that another process maps: the optimizer writes here, and the other process
computes with it.

Invariant: after `share`, every parameter and every persistent buffer lies in the file, and `holds` is true
until one of them is exchanged. Weights on a CPU only.
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

ALIGNMENT = 64  # every tensor begins at a multiple of this many bytes, for vector instructions
MEMORY = Path("/dev/shm")  # Linux: a folder in memory, which holds the file if it has room


@dataclass(frozen=True)
class Placed:
    """The place of one tensor in the file."""

    name: str
    """Name in `nn.Module.state_dict`; a tied weight has one place, under its first name."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Bytes from the beginning of the file."""


class SharedWeights:
    """The file with the weights."""

    def __init__(self, path: Path, places: list[Placed], memory: mmap.mmap) -> None:
        self.path, self.places = path, places
        self._memory = memory
        self._addresses: dict[str, int] = {}

    @classmethod
    def share(cls, network: nn.Module) -> SharedWeights:
        """Move the weights into a new file; the network's own tensors become views of it.

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
        """Whether the network still computes with this memory: loading a checkpoint by assignment exchanges
        tensors."""
        return {name: tensor.data_ptr() for name, tensor in _tensors(network)} == self._addresses

    def forget_name(self) -> None:
        """Remove the file's name once both processes have mapped it, so that a killed program leaves nothing
        behind."""
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
    """Parameters, and buffers that are part of a checkpoint; a tied weight comes once."""
    kept = set(network.state_dict(keep_vars=True))
    yield from network.named_parameters()
    yield from ((name, buffer) for name, buffer in network.named_buffers() if name in kept)


def _mapped(size: int) -> tuple[Path, mmap.mmap]:
    """A new file of `size` bytes and its mapped memory: in `MEMORY` if there is room, else among the
    temporary files."""
    for folder in (MEMORY, Path(tempfile.gettempdir())):
        try:
            number, name = tempfile.mkstemp(prefix="lensgraph-", suffix=".weights", dir=folder)
        except OSError as error:
            problem = error
            continue
        try:
            os.ftruncate(number, size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(number, 0, size)  # else writing beyond the free space would kill the program
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
