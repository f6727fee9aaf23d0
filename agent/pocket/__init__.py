"""The pocket policy: a tiny Qwen2.5-VL that ships with the package. `weights/README.md` is its card."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The checkpoint folder: config, tokenizer, image processor, safetensors."""
