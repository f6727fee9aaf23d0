"""`python -m lensgraph.agent.pocket`: print the architecture and size of the shipped policy, read from its files."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path

from lensgraph.agent.pocket import WEIGHTS


def parameters(folder: Path) -> dict[str, int]:
    """Parameters by part, from the headers of the safetensors files; tied embeddings count once."""
    counted: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        for name, tensor in header.items():
            if name == "__metadata__" or name.startswith("lm_head"):
                continue
            part = "vision" if "visual" in name else "embeddings" if "embed_tokens" in name else "decoder"
            counted[part] += math.prod(tensor["shape"])
    return dict(counted)


def main() -> None:
    """Print the counts."""
    counted = parameters(WEIGHTS)
    config = json.loads((WEIGHTS / "config.json").read_text("utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    size = sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors"))
    print(f"architecture  {config['architectures'][0]}")
    print(f"parameters    {sum(counted.values()):,} ({', '.join(f'{part} {n:,}' for part, n in counted.items())})")
    print(f"decoder       {text['num_hidden_layers']} layers of {text['hidden_size']}, vocabulary {text['vocab_size']}")
    print(f"vision        {vision['depth']} blocks of {vision['hidden_size']}, patches of {vision['patch_size']}")
    print(f"weights       {size / 1e6:.1f} MB on disk")


if __name__ == "__main__":
    main()
