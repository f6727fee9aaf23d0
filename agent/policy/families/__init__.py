"""Families of vision-language models, and what one needs that is not Qwen-VL."""
