"""Frame features of a frozen backbone: made once, kept by content, cleared on request."""
