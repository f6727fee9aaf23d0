"""Questions about the embedded world: `splits` gives them out, `question_maker` makes them of scenes, facts and wordings."""
