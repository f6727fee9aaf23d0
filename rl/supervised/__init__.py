"""Supervised fine-tuning (SFT), with TRL's SFTTrainer: the stage before online training.

`sft_recipe` holds every hyper-parameter. A training row is made from a demonstration of the embedded world
(`demonstration_rows`) or from a recorded trajectory (`trajectory_rows`); `start` pairs the rows with the policy
that a run begins with, `sft_trainer` computes the loss, and `train_supervised` is the training run: `python -m rl.train sft`.
"""
