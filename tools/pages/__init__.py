"""Reading pages: address to title and text, the passage that answers, and summaries by a chat model."""
