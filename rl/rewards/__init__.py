"""Rewards: the worth of a finished episode.

`reward_recipe` chooses a rule (`rules`) and a way to judge answers (`matches`), `episode_reward` applies them,
`formulas` are the papers' equations, `judge` asks a chat model and `judge_rules` are its rules without a
model.

A reward of one's own is a function in a file that Python finds, such as `my_rewards.py` in the working
directory:

    def brief(trajectory, right, options):
        return float(right) - 0.05 * len(trajectory.decisions)

and a line of the recipe: `reward: {rule: "my_rewards:brief"}`. It gets the episode's record
(`lensgraph.rl.rollout.trajectory.Trajectory`), whether the answer is right by `reward.match`, and the
recipe's `reward` fields; it returns the total, or a `Score` with all parts. If it raises, the episode is
recorded without a reward. A rule of this package is a row of `rules.RULES`.
"""
