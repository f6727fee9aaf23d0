"""Training and evaluation: tasks, rollouts, rewards, trainers, metrics. The other three rooms never import this one."""
