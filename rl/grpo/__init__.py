"""Online training: GRPO with a compiled graph as the rollout.

Read `train_online` (a run from its recipe to its policy), then `grpo_trainer` (TRL's trainer with our parts), then the parts:

- `generation`: run the graph, and turn rollouts into training rows;
- `credit`: advantages of episodes or of single decisions;
- `loss_mask`, `zero_advantage`: tokens and rows that an update counts;
- `resuming`: checkpoints from which a run goes on exactly;
- `grpo_recipe`, `build_trainer`: every hyper-parameter, and the trainer that follows from them;
- `metrics`, `held_out`: figures of a step, and of the policy before and after;
- `before_weights`, `dry_run`, `finished_pixels`: checks and small bridges to TRL.
"""
