"""One HTML page to look at: frames, scores, and what the network did with them."""
