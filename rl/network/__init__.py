"""Parts that every training stage uses on the network: batches (`collate`), the vision tower's attention, the
optimizer and the precision."""
