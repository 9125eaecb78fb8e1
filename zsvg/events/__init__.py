"""Where something happens in a video: cuts and event proposals from frame features alone."""
