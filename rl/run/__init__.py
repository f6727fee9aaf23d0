"""Parts of every training run: its folder (`run_folder`), base recipe, processes, callbacks, trackers, JSON
lines and plot."""
